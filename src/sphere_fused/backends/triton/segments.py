"""The four moves on the segments that one program holds.

Segments that fit stay in registers between the two sweeps; longer ones are read twice. Those
directions of x whose rules leave m alone store it as soon as it is made, unless it is to be made
again of what it was; adam's, with v, in the first sweep of two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from sphere_fused.backends.triton.moves import (
    Sums,
    any_of,
    gram_of,
    landing,
    limit,
    moved,
    spread,
    stored,
    tangent,
    total,
    whole_or,
)
from sphere_fused.rule import Landing

# A shape is a number, because not every Triton passes a tuple on: from its lowest bit on
#   4 bits  log2 of rows: how many segments a program takes
#   4 bits  log2 of cols: how many elements of each it holds at once
#   4 bits  log2 of vector: addresses, in elements, and lengths are multiples of it
#   1 bit   held: those are all elements, so that each is read once
#   1 bit   across: neighbours in memory are of different segments
#   1 bit   single: nothing is summed, and the classic rule steps every element
#   1 bit   split: segments so long that several programs step parts of each


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
def elements(at, done, h, again: tl.constexpr, direction: tl.constexpr, shape: tl.constexpr):
    """Elements of each segment from `done` on, after move 1; where they are; which of them are.

    `again`: adam's moments have been stored, after move 1.
    """
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
    v = m
    of_g = inside
    if direction == "adam":
        v = tl.load(at.v + where, mask=inside, other=0.0)
        if again:
            of_g = inside & (row < tl.where(h.x_g != 0.0, at.count, 0))
    g = tl.load(at.g + where, mask=of_g, other=0.0).to(m.dtype)
    return moved(w, g, m, v, inside, h, again and direction == "adam", direction), where, inside


@triton.jit
def keep(at, tile, where, inside, direction: tl.constexpr, shape: tl.constexpr):
    """Store the moments that move 1 has made."""
    row = tl.arange(0, 1 << (shape & 15))[:, None]
    tl.store(at.m + where, tile.m, mask=inside & (row < at.keep_m))
    if direction == "adam":
        tl.store(at.v + where, tile.v, mask=inside)


@triton.jit
def read(at, done, h, direction: tl.constexpr, shape: tl.constexpr):
    """`elements` for the first time, which stores moments that are not to be made again."""
    held: tl.constexpr = shape >> 12 & 1
    tile, where, inside = elements(at, done, h, False, direction, shape)
    if direction == "adam" or (held and (direction == "nesterov" or direction == "sign")):
        keep(at, tile, where, inside, direction, shape)
    return tile, where, inside


@triton.jit
def write(at, tile, where, inside, u, radial, like, direction: tl.constexpr, shape: tl.constexpr):
    """Move 4."""
    held: tl.constexpr = shape >> 12 & 1
    y = spread(u.a_w, like) * tile.w + spread(u.a_x, like) * tile.x
    m = tile.m
    if direction == "moment" or direction == "previous":
        m = spread(u.b_w, like) * tile.w + spread(u.b_x, like) * tile.x
    else:
        y += spread(u.a_1, like)
    if direction == "previous":
        h = tile.g - spread(radial, like) * tile.w
        y += spread(u.a_h, like) * h
        m += spread(u.b_h, like) * h
    tl.store(at.w + where, stored(y, at.w.dtype.element_ty), mask=inside)
    if direction == "moment" or direction == "previous":
        row = tl.arange(0, 1 << (shape & 15))[:, None]
        tl.store(at.m + where, m, mask=inside & (row < at.keep_m))
    elif direction != "adam" and not held:
        keep(at, tile, where, inside, direction, shape)


@triton.jit
def sums_of(at, tile, h, direction: tl.constexpr, shape: tl.constexpr):
    """Move 2: of a held tile, or of all elements of the segments, of which `tile` are the first."""
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    ww, wx, xx = tile.w * tile.w, tile.w * tile.x, tile.x * tile.x
    gg, wg, gx = tile.g * tile.g, tile.w * tile.g, tile.g * tile.x
    sw, sx = tile.w, tile.x
    if not held:
        for done in range(cols, limit(at.dim), cols):
            more, _, _ = read(at, done, h, direction, shape)
            ww += more.w * more.w
            wx += more.w * more.x
            xx += more.x * more.x
            gg += more.g * more.g
            wg += more.w * more.g
            gx += more.g * more.x
            sw += more.w
            sx += more.x
    return Sums(
        ww=total(ww), wx=total(wx), xx=total(xx), wg=total(wg), gg=total(gg), gx=total(gx),
        sw=total(sw), sx=total(sx),
    )  # fmt: skip


@triton.jit
def products_of_point(tile, inside, a, b, c, direction: tl.constexpr):
    """Of p = a w + b x + c (b g where x is the previous moment) with itself, w and x."""
    z = tile.g if direction == "previous" else tile.x
    p = spread(a, a) * tile.w + spread(b, a) * z
    if direction != "moment" and direction != "previous":
        p = tl.where(inside, p + spread(c, a), 0.0)
    return p * p, p * tile.w, p * tile.x


@triton.jit
def sums_of_point(at, tile, inside, h, a, b, c, direction: tl.constexpr, shape: tl.constexpr):
    """Those products summed: of a held tile, or of all elements, which are read once more."""
    rows: tl.constexpr = 1 << (shape & 15)
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    if held:
        pp, pw, px = products_of_point(tile, inside, a, b, c, direction)
    else:
        pp = tl.zeros([rows, cols], a.dtype)
        pw, px = pp, pp
        for done in range(0, limit(at.dim), cols):
            more, _, within = elements(at, done, h, True, direction, shape)
            qq, qw, qx = products_of_point(more, within, a, b, c, direction)
            pp += qq
            pw += qw
            px += qx
    return total(pp), total(pw), total(px)


@triton.jit
def step_segments(
    at, s, radius, whole, h, step: tl.constexpr, land: tl.constexpr, surveys: tl.constexpr,
    direction: tl.constexpr, shape: tl.constexpr,
):  # fmt: skip
    """All moves on the segments of one program; returns their new s."""
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    single: tl.constexpr = shape >> 14 & 1
    tile, where, inside = read(at, 0, h, direction, shape)
    sums = sums_of(at, tile, h, direction, shape)
    hh, hx, radial = sums.gg, sums.gx, tl.zeros_like(sums.ww)
    if direction == "previous" and not single:
        radial, hh, hx, cancels = tangent(sums)
        if any_of(cancels):
            pp, _, px = sums_of_point(at, tile, inside, h, -radial, 1.0, 0.0, direction, shape)
            hh = tl.where(cancels, pp, hh)
            hx = tl.where(cancels, px, hx)
    gram = gram_of(sums, hh, hx, radius, s.dtype)
    if surveys:
        gram = whole_or(gram, whole, h)
    if direction == "adam" and not held:
        # What other threads of the program have stored is read below.
        tl.debug_barrier()
    u = step(gram, s, h)
    if land is not None:
        yy, wy, xy, cancels = landing(sums, u, h, direction)
        if any_of(cancels):
            a = tl.zeros_like(yy) + u.a_w
            pp, pw, px = sums_of_point(at, tile, inside, h, a, u.a_x, u.a_1, direction, shape)
            yy = tl.where(cancels, pp, yy)
            wy = tl.where(cancels, pw, wy)
            xy = tl.where(cancels, px, xy)
        u = land(gram, Landing(yy=yy, wy=wy, xy=xy), u, h)

    if held:
        write(at, tile, where, inside, u, radial, sums.ww, direction, shape)
    else:
        for done in range(0, limit(at.dim), cols):
            more, of_more, within = elements(at, done, h, True, direction, shape)
            write(at, more, of_more, within, u, radial, sums.ww, direction, shape)
    return tl.zeros_like(sums.ww) + u.s
