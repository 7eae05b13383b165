"""The kernel that steps every tensor of one set of dtypes and one rule.

A program takes one piece of work from a list: some segments of one tensor, or a part of some. How
it holds them is a shape, known when the kernel is compiled, which has a branch for every shape.
`layout.py` lays out the tables and chooses the shapes.
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
    RADIUS,
    RECORDS,
    SHAPE,
    TENSOR_FIELDS,
    M,
    S,
    V,
    W,
)
from sphere_fused.backends.triton.parts import PART_FIELDS, step_part, sum_part, until
from sphere_fused.backends.triton.segments import Segments, step_segments


@triton.jit
def pointer(address, kind: tl.constexpr, vector: tl.constexpr):
    alignment: tl.constexpr = 16 if vector > 1 else 1
    return tl.multiple_of(address.to(tl.pointer_type(kind)), alignment)


@triton.jit
def located(
    tensor,
    gradient,
    piece,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shape: tl.constexpr,
):
    """The segments of a piece of work, and the number of the first."""
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
    at = Segments(
        w=pointer(tl.load(tensor + W), w_type, vector) + start,
        g=pointer(tl.load(gradient), g_type, vector) + start,
        m=pointer(m, state_type, vector) + start,
        v=pointer(tl.load(tensor + V), state_type, vector) + start,
        count=count,
        keep_m=count * (m != 0).to(tl.int32),
        dim=dim,
        inner=inner,
    )
    return at, segment


@triton.jit
def step_piece(
    tensor,
    gradient,
    hypers,
    sums,
    records,
    number,
    summing: tl.constexpr,
    part: tl.constexpr,
    hyper_of: tl.constexpr,
    step: tl.constexpr,
    land: tl.constexpr,
    direction: tl.constexpr,
    keeps_s: tl.constexpr,
    keeps_radius: tl.constexpr,
    surveys: tl.constexpr,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shape: tl.constexpr,
):
    """Step the segments of one piece of work, or sum its part of each."""
    rows: tl.constexpr = 1 << (shape & 15)
    vector: tl.constexpr = 1 << (shape >> 8 & 15)
    split: tl.constexpr = shape >> 15 & 1
    dim = tl.load(tensor + DIM)
    piece = number
    if split:
        parts = tl.cdiv(dim, part)
        piece = number // parts
    at, segment = located(tensor, gradient, piece, w_type, g_type, state_type, shape)
    h = hyper_of(hypers, state_type)
    row = tl.arange(0, rows)
    s = tl.zeros([rows], state_type)
    of_rows = tl.load(tensor + S).to(tl.pointer_type(state_type)) + segment + row
    if keeps_s and (summing or not split):
        s = tl.load(of_rows, mask=row < at.count, other=0.0)
    radius = s
    if keeps_radius and not summing:
        radii = tl.load(tensor + RADIUS).to(tl.pointer_type(state_type)) + segment + row
        radius = tl.load(radii, mask=row < at.count, other=0.0)
    whole = records + tl.load(tensor + RECORDS)
    first_part = True
    if split:
        begin = (number % parts) * part
        of_whole = sums + tl.load(tensor + PARTS) + piece * parts * PART_FIELDS * rows
        at = until(at, tl.minimum(begin + part, dim), vector)
        if summing:
            to = of_whole + (number % parts) * PART_FIELDS * rows
            sum_part(at, begin, s, h, to, direction, shape)
        else:
            s = step_part(
                at, begin, radius, of_whole, parts, whole, h, step, land, surveys, direction, shape
            )
            first_part = begin == 0
    else:
        s = step_segments(at, s, radius, whole, h, step, land, surveys, direction, shape)
    if keeps_s and not summing:
        tl.store(of_rows, s, mask=row < tl.where(first_part, at.count, 0))


@triton.jit
def step_all(
    tensors,
    gradients,
    hypers,
    sums,
    records,
    work,
    summing: tl.constexpr,
    part: tl.constexpr,
    own: tl.constexpr,
    hyper_of: tl.constexpr,
    step: tl.constexpr,
    land: tl.constexpr,
    direction: tl.constexpr,
    keeps_s: tl.constexpr,
    keeps_radius: tl.constexpr,
    surveys: tl.constexpr,
    classic_step: tl.constexpr,
    classic_land: tl.constexpr,
    classic_direction: tl.constexpr,
    classic_keeps_s: tl.constexpr,
    classic_keeps_radius: tl.constexpr,
    w_type: tl.constexpr,
    g_type: tl.constexpr,
    state_type: tl.constexpr,
    shapes: tl.constexpr,
):
    """Step every tensor of one set of dtypes, those where nothing is summed by the classic rule.

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
                    tensor, gradient, hyper, sums, records, number, summing, part, hyper_of,
                    classic_step, classic_land, classic_direction, classic_keeps_s,
                    classic_keeps_radius, False, w_type, g_type, state_type, shapes[i],
                )  # fmt: skip
            else:
                step_piece(
                    tensor, gradient, hyper, sums, records, number, summing, part, hyper_of,
                    step, land, direction, keeps_s, keeps_radius, surveys,
                    w_type, g_type, state_type, shapes[i],
                )  # fmt: skip
