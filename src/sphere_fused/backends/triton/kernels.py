"""The kernel that steps every tensor of one set of dtypes.

A program takes one piece of work from a list: some segments of one tensor, or a part of some. How
it holds them is a shape, known when the kernel is compiled, which has a branch for every shape.
`steps.py` lays out the tables and chooses the shapes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sphere_fused.backends.triton.begin import (
    ACTIVE,
    DIM,
    HYPER_FIELDS,
    INNER,
    OUTER,
    PARTS,
    SHAPE,
    TENSOR_FIELDS,
    M,
    V,
    W,
)
from sphere_fused.backends.triton.parts import step_part, sum_part, until
from sphere_fused.backends.triton.segments import Segments, step_segments


@triton.jit
def pointer(address, kind: tl.constexpr, vector: tl.constexpr):
    alignment: tl.constexpr = 16 if vector > 1 else 1
    return tl.multiple_of(address.to(tl.pointer_type(kind)), alignment)


@triton.jit
def step_piece(
    tensor,
    gradient,
    hypers,
    sums,
    number,
    summing: tl.constexpr,
    part: tl.constexpr,
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
    """Step the segments of one piece of work, or sum its part of each."""
    rows: tl.constexpr = 1 << (shape & 15)
    across: tl.constexpr = shape >> 13 & 1
    vector: tl.constexpr = 1 << (shape >> 8 & 15)
    split: tl.constexpr = shape >> 15 & 1
    dim, outer, inner = tl.load(tensor + DIM), tl.load(tensor + OUTER), tl.load(tensor + INNER)
    piece = number
    if split:
        parts = tl.cdiv(dim, part)
        piece = number // parts
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
    if second == "segment" and (summing or not split):
        s = tl.load(of_rows, mask=row < count, other=0.0)
    first_part = True
    if split:
        begin = (number % parts) * part
        of_whole = sums + tl.load(tensor + PARTS) + piece * parts * 7 * rows
        at = until(at, tl.minimum(begin + part, dim), vector)
        if summing:
            to = of_whole + (number % parts) * 7 * rows
            sum_part(at, begin, s, h, to, direction, shape)
        else:
            s = step_part(at, begin, of_whole, parts, h, step, land, direction, shape)
            first_part = begin == 0
    else:
        s = step_segments(at, s, h, step, land, direction, shape)
    if second == "segment" and not summing:
        tl.store(of_rows, s, mask=row < tl.where(first_part, count, 0))


@triton.jit
def step_all(
    tensors,
    gradients,
    hypers,
    sums,
    work,
    summing: tl.constexpr,
    part: tl.constexpr,
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
    """Step every tensor of one set of dtypes, those of single elements by the classic rule.

    With `summing` it only adds up the parts, of `part` elements, of segments that are split.
    """
    entry = tl.load(work + 2 * tl.program_id(0)).to(tl.int64)
    number = tl.load(work + 2 * tl.program_id(0) + 1).to(tl.int64)
    tensor = tensors + entry * TENSOR_FIELDS
    gradient = gradients + entry
    hyper = hypers + entry * (HYPER_FIELDS + own)
    # What an entry's branch holds ends with it: in a loop over pieces every branch's offsets would
    # be computed before, and take registers from all.
    which = tl.where(tl.load(hyper + ACTIVE) != 0.0, tl.load(tensor + SHAPE), -1)
    for i in tl.static_range(len(shapes)):
        if which == i:
            if summing and not shapes[i] >> 15 & 1:
                pass
            elif shapes[i] >> 14 & 1:
                step_piece(
                    tensor, gradient, hyper, sums, number, summing, part, hyper_of,
                    classic_step, classic_land, classic_direction, classic_second,
                    w_type, g_type, state_type, shapes[i],
                )  # fmt: skip
            else:
                step_piece(
                    tensor, gradient, hyper, sums, number, summing, part, hyper_of,
                    step, land, direction, second, w_type, g_type, state_type, shapes[i],
                )  # fmt: skip
