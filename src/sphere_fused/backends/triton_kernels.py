"""The two kernels of a step in Triton.

`begin` counts the step and forms the hyperparameters of every tensor. `step_all` does the rest in
one launch: a program takes one piece of work from a list, which is some segments of one tensor.
How it holds them is a Shape, known when the kernel is compiled, which has a branch for every shape
in use. `backends/triton.py` lays out the tables and chooses the shapes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from sphere_fused.backends.triton_moves import (
    any_of,
    landing,
    moved,
    spread,
    stored,
    tangent,
    total,
)
from sphere_fused.rule import Gram, Hyper, Landing

# A shape is a number, because not every Triton passes a tuple on: from its lowest bit on
#   4 bits  log2 of rows: how many segments a program takes
#   4 bits  log2 of cols: how many elements of each it holds at once
#   4 bits  log2 of vector: addresses, in elements, and lengths are multiples of it
#   1 bit   held: those are all elements, so that each is read once
#   1 bit   across: neighbours in memory are of different segments
#   1 bit   single: segments of one element, which the classic rule steps

# What is in a row of the tables. Of a tensor, addresses first, in 64-bit integers:
W, M, V, STEP, DIM, OUTER, INNER, GROUP, SHAPE = (tl.constexpr(i) for i in range(9))
TENSOR_FIELDS = tl.constexpr(9)
# Of a group, in doubles:
LR, BETA1, LEFT1, GAIN1, BETA2, LEFT2, EPS, DECAY, DECOUPLED, CLIP, SCALE = (
    tl.constexpr(i) for i in range(11)
)
GROUP_FIELDS = tl.constexpr(11)
# Addresses of numbers that are on the GPU, or 0: lr in float, in double, grad_scale, found_inf.
PLACES = tl.constexpr(4)
# Of a tensor's hyperparameters, in doubles: those of Hyper, whether it is to be stepped, and those
# of the rule's own, which also end a group's row.
ACTIVE = tl.constexpr(Hyper._fields.index("own"))
HYPER_FIELDS = tl.constexpr(ACTIVE.value + 1)


@triton.jit
def number_at(addresses, kind: tl.constexpr, other):
    """The numbers at these addresses; `other` where there is none."""
    there = addresses != 0
    return tl.where(
        there, tl.load(addresses.to(tl.pointer_type(kind)), there, other=0.0).to(tl.float64), other
    )


@triton.jit
def bias_correction(left, step):
    """1 - beta**step, of left = 1 - beta, by squaring; nothing is subtracted that cancels."""
    found = tl.zeros_like(left)
    for _ in range(25):  # float32 counts to 2**24
        found = tl.where((step & 1) != 0, found + left - found * left, found)
        left = left * (2.0 - left)
        step = step >> 1
    return found


@triton.jit
def begin(
    tensors, gradients, groups, places, hypers, count, own: tl.constexpr, block: tl.constexpr
):
    """A lane per tensor."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < count
    tensor = tensors + i * TENSOR_FIELDS
    index = tl.load(tensor + GROUP, inside, other=0)
    group = groups + index * (GROUP_FIELDS + own)
    place = places + index * PLACES

    lr = number_at(tl.load(place), tl.float32, tl.load(group + LR))
    lr = number_at(tl.load(place + 1), tl.float64, lr)
    scale = number_at(tl.load(place + 2), tl.float32, tl.load(group + SCALE))
    found_inf = number_at(tl.load(place + 3), tl.float32, tl.zeros_like(lr))
    gradient = tl.load(gradients + i, inside, other=0)
    active = inside & (gradient != 0) & (found_inf == 0.0)

    counter = tl.load(tensor + STEP, inside, other=0)
    counter_at = counter.to(tl.pointer_type(tl.float32))
    counts = active & (counter != 0)
    step = tl.load(counter_at, counts, other=0.0) + 1.0
    tl.store(counter_at, step, counts)
    step = step.to(tl.int32)

    decay = tl.load(group + DECAY)
    decoupled = tl.load(group + DECOUPLED) != 0.0
    hyper = hypers + i * (HYPER_FIELDS + own)
    tl.store(hyper + 0, lr, active)
    tl.store(hyper + 1, tl.load(group + BETA1), active)
    tl.store(hyper + 2, tl.load(group + GAIN1), active)
    tl.store(hyper + 3, tl.load(group + BETA2), active)
    tl.store(hyper + 4, tl.load(group + LEFT2), active)
    tl.store(hyper + 5, bias_correction(tl.load(group + LEFT1), step), active)
    tl.store(hyper + 6, bias_correction(tl.load(group + LEFT2), step), active)
    tl.store(hyper + 7, tl.load(group + EPS), active)
    tl.store(hyper + 8, tl.where(decoupled, 1.0 - lr * decay, 1.0), active)
    tl.store(hyper + 9, tl.load(group + CLIP), active)
    tl.store(hyper + 10, tl.sqrt(tl.load(tensor + DIM, inside, other=1).to(tl.float64)), active)
    tl.store(hyper + 11, tl.where(decoupled, 0.0, decay), active)
    tl.store(hyper + 12, 1.0 / scale, active)
    tl.store(hyper + ACTIVE, active.to(tl.float64), inside)
    for k in tl.static_range(own):
        tl.store(hyper + HYPER_FIELDS + k, tl.load(group + GROUP_FIELDS + k), active)


class Segments(NamedTuple):
    """Some segments of one tensor, from the first that is this program's."""

    w: Any
    g: Any
    m: Any
    v: Any
    count: Any  # of those that are left
    keep_m: Any  # as many of them have an m: all or none
    dim: Any
    inner: Any  # between two elements of a segment that lies across memory


@triton.jit
def read(at, done, h, direction: tl.constexpr, shape: tl.constexpr):
    """Elements of each segment from `done` on, after move 1; where they are; which of them are."""
    rows: tl.constexpr = 1 << (shape & 15)
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    vector: tl.constexpr = 1 << (shape >> 8 & 15)
    across: tl.constexpr = shape >> 13 & 1
    single: tl.constexpr = shape >> 14 & 1
    row = tl.arange(0, rows)[:, None]
    col = tl.arange(0, cols)[None, :]
    left = tl.minimum(at.dim - done, cols).to(tl.int32)
    if single:
        where = row + 0 * col
    elif across:
        where = row + (done + col) * at.inner
    else:
        left = tl.multiple_of(left, vector)
        where = row * tl.multiple_of(at.dim.to(tl.int32), vector) + (done + col)
    inside = (row < at.count) & (col < left)
    m = tl.load(at.m + where, mask=inside & (row < at.keep_m), other=0.0)
    w = tl.load(at.w + where, mask=inside, other=0.0).to(m.dtype)
    g = tl.load(at.g + where, mask=inside, other=0.0).to(m.dtype)
    v = m
    if direction == "adam":
        v = tl.load(at.v + where, mask=inside, other=0.0)
    return moved(w, g, m, v, inside, h, direction), where, inside


@triton.jit
def write(at, tile, where, inside, u, radial, like, direction: tl.constexpr, shape: tl.constexpr):
    """Move 4."""
    rows: tl.constexpr = 1 << (shape & 15)
    y = spread(u.a_w, like) * tile.w + spread(u.a_x, like) * tile.x
    if direction == "adam":
        m = tile.m
        tl.store(at.v + where, tile.v, mask=inside)
    else:
        m = spread(u.b_w, like) * tile.w + spread(u.b_x, like) * tile.x
    if direction == "previous":
        h = tile.g - spread(radial, like) * tile.w
        y += spread(u.a_h, like) * h
        m += spread(u.b_h, like) * h
    tl.store(at.w + where, stored(y, at.w.dtype.element_ty), mask=inside)
    row = tl.arange(0, rows)[:, None]
    tl.store(at.m + where, m, mask=inside & (row < at.keep_m))


@triton.jit
def sums(at, tile, h, direction: tl.constexpr, shape: tl.constexpr):
    """Move 2: of a held tile, or of all elements of the segments, of which `tile` are the first."""
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    ww, wx, xx = tile.w * tile.w, tile.w * tile.x, tile.x * tile.x
    gg, wg, gx = tile.g * tile.g, tile.w * tile.g, tile.g * tile.x
    if not held:
        for done in range(cols, at.dim, cols):
            more, _, _ = read(at, done, h, direction, shape)
            ww += more.w * more.w
            wx += more.w * more.x
            xx += more.x * more.x
            gg += more.g * more.g
            wg += more.w * more.g
            gx += more.g * more.x
    return total(ww), total(wx), total(xx), total(wg), total(gg), total(gx)


@triton.jit
def sums_of_point(at, tile, h, a, b, direction: tl.constexpr, shape: tl.constexpr):
    """Products of p = a w + b x (b g where x is the previous moment) with itself, w and x."""
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    z = tile.g if direction == "previous" else tile.x
    p = spread(a, a) * tile.w + spread(b, a) * z
    pp, pw, px = p * p, p * tile.w, p * tile.x
    if not held:
        for done in range(cols, at.dim, cols):
            more, _, _ = read(at, done, h, direction, shape)
            other = more.g if direction == "previous" else more.x
            q = spread(a, a) * more.w + spread(b, a) * other
            pp += q * q
            pw += q * more.w
            px += q * more.x
    return total(pp), total(pw), total(px)


@triton.jit
def step_segments(
    at, s, h, step: tl.constexpr, land: tl.constexpr, direction: tl.constexpr, shape: tl.constexpr
):
    """All moves on the segments of one program; returns their new s."""
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    tile, where, inside = read(at, 0, h, direction, shape)
    ww, wx, xx, wg, gg, gx = sums(at, tile, h, direction, shape)
    hh, hx, radial = gg, gx, ww
    if direction == "previous":
        radial, hh, hx, cancels = tangent(ww, wx, wg, gg, gx)
        if any_of(cancels):
            pp, _, px = sums_of_point(at, tile, h, -radial, 1.0, direction, shape)
            hh = tl.where(cancels, pp, hh)
            hx = tl.where(cancels, px, hx)
    gram = Gram(ww=ww, wx=wx, xx=xx, wg=wg, gg=gg, gx=gx, hh=hh, hx=hx)
    u = step(gram, s, h)
    if land is not None:
        yy, wy, xy, cancels = landing(ww, wx, xx, u)
        if any_of(cancels):
            a = tl.zeros_like(ww) + u.a_w
            pp, pw, px = sums_of_point(at, tile, h, a, u.a_x, direction, shape)
            yy = tl.where(cancels, pp, yy)
            wy = tl.where(cancels, pw, wy)
            xy = tl.where(cancels, px, xy)
        u = land(gram, Landing(yy=yy, wy=wy, xy=xy), u, h)

    if held:
        write(at, tile, where, inside, u, radial, ww, direction, shape)
    else:
        for done in range(0, at.dim, cols):
            more, of_more, within = read(at, done, h, direction, shape)
            write(at, more, of_more, within, u, radial, ww, direction, shape)
    return tl.zeros_like(ww) + u.s


@triton.jit
def pointer(address, kind: tl.constexpr, vector: tl.constexpr):
    alignment: tl.constexpr = 16 if vector > 1 else 1
    return tl.multiple_of(address.to(tl.pointer_type(kind)), alignment)


@triton.jit
def step_piece(
    tensor,
    gradient,
    hypers,
    piece,
    hyper_of: tl.constexpr,
    step: tl.constexpr,
    land: tl.constexpr,
    direction: tl.constexpr,
    second: tl.constexpr,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shape: tl.constexpr,
):
    """Step the segments of one piece of work."""
    rows: tl.constexpr = 1 << (shape & 15)
    across: tl.constexpr = shape >> 13 & 1
    vector: tl.constexpr = 1 << (shape >> 8 & 15)
    dim, outer, inner = tl.load(tensor + DIM), tl.load(tensor + OUTER), tl.load(tensor + INNER)
    if across:
        inner = tl.multiple_of(inner, vector)
        pieces = tl.cdiv(inner, rows)
        block, first = piece // pieces, (piece % pieces) * rows
        segment = block * inner + first
        start, count = segment + block * (dim - 1) * inner, inner - first
    else:
        dim = tl.multiple_of(dim, vector)
        segment = piece * rows
        start, count = segment * dim, outer - segment
    m = tl.load(tensor + M)
    count = tl.minimum(count, rows).to(tl.int32)
    if across:
        count = tl.multiple_of(count, vector)
    keep_m = count * (m != 0).to(tl.int32)
    v = tl.load(tensor + V)
    at = Segments(
        w=pointer(tl.load(tensor + W), w_type, vector) + start,
        g=pointer(tl.load(gradient), g_type, vector) + start,
        m=pointer(m, state_type, vector) + start,
        v=pointer(v, state_type, vector) + start,
        count=count,
        keep_m=keep_m,
        dim=dim,
        inner=inner,
    )
    h = hyper_of(hypers, state_type)
    row = tl.arange(0, rows)
    s = tl.zeros([rows], state_type)
    of_rows = v.to(tl.pointer_type(state_type)) + segment + row
    if second == "segment":
        s = tl.load(of_rows, mask=row < count, other=0.0)
    s = step_segments(at, s, h, step, land, direction, shape)
    if second == "segment":
        tl.store(of_rows, s, mask=row < count)


@triton.jit
def step_all(
    tensors,
    gradients,
    hypers,
    work,
    own: tl.constexpr,
    hyper_of: tl.constexpr,
    step: tl.constexpr,
    land: tl.constexpr,
    classic_step: tl.constexpr,
    classic_land: tl.constexpr,
    direction: tl.constexpr,
    second: tl.constexpr,
    classic_direction: tl.constexpr,
    classic_second: tl.constexpr,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shapes: tl.constexpr,
):
    """Step every tensor of one set of dtypes, those of single elements by the classic rule."""
    entry = tl.load(work + 2 * tl.program_id(0)).to(tl.int64)
    piece = tl.load(work + 2 * tl.program_id(0) + 1).to(tl.int64)
    tensor = tensors + entry * TENSOR_FIELDS
    gradient = gradients + entry
    hyper = hypers + entry * (HYPER_FIELDS + own)
    # What an entry's branch holds ends with it: in a loop over pieces every branch's offsets would
    # be computed before, and take registers from all.
    which = tl.where(tl.load(hyper + ACTIVE) != 0.0, tl.load(tensor + SHAPE), -1)
    for i in tl.static_range(len(shapes)):
        if which == i:
            if shapes[i] >> 14 & 1:
                step_piece(
                    tensor, gradient, hyper, piece, hyper_of, classic_step, classic_land,
                    classic_direction, classic_second, w_type, g_type, state_type, shapes[i],
                )  # fmt: skip
            else:
                step_piece(
                    tensor, gradient, hyper, piece, hyper_of, step, land,
                    direction, second, w_type, g_type, state_type, shapes[i],
                )  # fmt: skip
