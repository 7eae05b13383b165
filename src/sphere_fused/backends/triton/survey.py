"""What a rule that must see the whole tensor first is told: sums over all of it, and the verdict.

Four launches, over all such tensors: programs note what they see of w and g; one program per tensor
asks the rule for its verdict; where that is that the tensor is one segment, programs add up its
other products, and one program all of those.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sphere_fused.backends.triton.begin import (
    ACTIVE,
    COUNT,
    GG,
    HYPER_FIELDS,
    MOST,
    RECORD_FIELDS,
    RECORDS,
    SURVEY,
    SW,
    SX,
    TENSOR_FIELDS,
    VERDICT,
    WG,
    WW,
    WX,
    XX,
)
from sphere_fused.backends.triton.kernels import located
from sphere_fused.backends.triton.moves import Sums, gram_of, limit, maximum, total
from sphere_fused.backends.triton.segments import elements


@triton.jit
def products(tile, decided: tl.constexpr, kind: tl.constexpr):
    """Before the verdict nothing is made of m and v, so that compilers leave out to load them."""
    w, x, g = tile.w.to(kind), tile.x.to(kind), tile.g.to(kind)
    if decided:
        return w * x, x * x, w, x
    else:
        return w * w, w * g, g * g, w


@triton.jit
def note(at, of_rows):
    tl.store(at, tl.sum(of_rows.to(tl.float64), axis=0))


@triton.jit
def surveyed(ww, wg, gg, kind: tl.constexpr):
    """The Gram that a peak and a verdict read; of its other fields they have none."""
    sums = Sums(ww=ww, wx=ww, xx=ww, wg=wg, gg=gg, gx=ww, sw=ww, sx=ww)
    return gram_of(sums, ww, ww, ww, kind)


@triton.jit
def largest(peaks, there):
    """NaN if one is."""
    is_number = peaks == peaks
    most = tl.max(tl.where(there & is_number, peaks, -float("inf")), axis=0)
    return most + tl.sum(tl.where(there & (is_number == 0), peaks, 0.0), axis=0)


@triton.jit
def survey_piece(
    tensor,
    gradient,
    hypers,
    records,
    number,
    decided: tl.constexpr,
    hyper_of: tl.constexpr,
    peak: tl.constexpr,
    direction: tl.constexpr,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shape: tl.constexpr,
):
    """Note what one piece of work adds to the sums over its tensor."""
    rows: tl.constexpr = 1 << (shape & 15)
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    held: tl.constexpr = shape >> 12 & 1
    at, _ = located(tensor, gradient, number, w_type, g_type, state_type, shape)
    h = hyper_of(hypers, state_type)
    # A program adds up a segment however long it is.
    kind: tl.constexpr = state_type if held else tl.float64
    tile, _, _ = elements(at, 0, h, False, direction, shape)
    a, b, c, d = products(tile, decided, kind)
    if not held:
        for done in range(cols, limit(at.dim), cols):
            more, _, _ = elements(at, done, h, False, direction, shape)
            e, f, g, i = products(more, decided, kind)
            a += e
            b += f
            c += g
            d += i
    a, b, c = total(a), total(b), total(c)
    count = tl.load(tensor + COUNT)
    to = records + RECORD_FIELDS + number
    if decided:
        note(to + WX * count, a)
        note(to + XX * count, b)
        note(to + SW * count, c)
        note(to + SX * count, total(d))
    else:
        note(to + WW * count, a)
        note(to + WG * count, b)
        note(to + GG * count, c)
        peaks = tl.zeros([rows], state_type) + peak(surveyed(a, b, c, state_type), h)
        tl.store(to + MOST * count, largest(peaks, tl.arange(0, rows) < at.count))


@triton.jit
def survey(
    tensors,
    gradients,
    hypers,
    records,
    work,
    decided: tl.constexpr,
    own: tl.constexpr,
    hyper_of: tl.constexpr,
    peak: tl.constexpr,
    direction: tl.constexpr,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shapes: tl.constexpr,
):
    """Survey every tensor of one set of dtypes; `decided`: those which are one segment."""
    entry = tl.load(work + 2 * tl.program_id(0)).to(tl.int64)
    number = tl.load(work + 2 * tl.program_id(0) + 1).to(tl.int64)
    tensor = tensors + entry * TENSOR_FIELDS
    hyper = hypers + entry * (HYPER_FIELDS + own)
    which = tl.where(tl.load(hyper + ACTIVE) != 0.0, tl.load(tensor + SURVEY), -1)
    if decided:
        which = tl.where(tl.load(hyper + VERDICT) > 1.0, which, -1)
    of_tensor = records + tl.load(tensor + RECORDS)
    for i in tl.static_range(len(shapes)):
        if which == i:
            survey_piece(
                tensor, gradients + entry, hyper, of_tensor, number, decided, hyper_of, peak,
                direction, w_type, g_type, state_type, shapes[i],
            )  # fmt: skip


@triton.jit
def sum_of_records(of_tensor, field: tl.constexpr, count, block: tl.constexpr):
    """Always in the same order."""
    at = of_tensor + RECORD_FIELDS + field * count
    found = tl.zeros([block], tl.float64)
    for first in range(0, limit(count), block):
        i = first + tl.arange(0, block)
        found += tl.load(at + i, mask=i < count, other=0.0)
    found = tl.sum(found, axis=0)
    tl.store(of_tensor + field, found)
    return found


@triton.jit
def judge(
    tensors,
    hypers,
    records,
    entries,
    decided: tl.constexpr,
    own: tl.constexpr,
    hyper_of: tl.constexpr,
    verdict: tl.constexpr,
    state_type: tl.constexpr,
    block: tl.constexpr,
):
    """A program per tensor: the verdict, or, once that is known, the rest of the tensor's sums."""
    entry = tl.load(entries + tl.program_id(0)).to(tl.int64)
    tensor = tensors + entry * TENSOR_FIELDS
    hyper = hypers + entry * (HYPER_FIELDS + own)
    of_tensor = records + tl.load(tensor + RECORDS)
    count = tl.load(tensor + COUNT)
    is_active = tl.load(hyper + ACTIVE) != 0.0
    if decided:
        if tl.where(is_active, tl.load(hyper + VERDICT), 0.0) > 1.0:
            sum_of_records(of_tensor, WX, count, block)
            sum_of_records(of_tensor, XX, count, block)
            sum_of_records(of_tensor, SW, count, block)
            sum_of_records(of_tensor, SX, count, block)
    elif is_active:
        ww = sum_of_records(of_tensor, WW, count, block)
        wg = sum_of_records(of_tensor, WG, count, block)
        gg = sum_of_records(of_tensor, GG, count, block)
        lane = tl.arange(0, block)
        peaks = tl.full([block], -float("inf"), tl.float64)
        for first in range(0, limit(count), block):
            at = of_tensor + RECORD_FIELDS + MOST * count + first + lane
            inside = first + lane < count
            peaks = maximum(peaks, tl.load(at, mask=inside, other=-float("inf")))
        h = hyper_of(hyper, state_type)
        most = largest(peaks, lane >= 0).to(state_type)
        said = verdict(surveyed(ww, wg, gg, state_type), most, h)
        tl.store(hyper + VERDICT, said.to(tl.float64))
