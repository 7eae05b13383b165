"""Segments so long that several programs step parts of each: their sums, then their update."""

from __future__ import annotations

import triton
import triton.language as tl

from sphere_fused.backends.triton.moves import (
    Sums,
    gram_of,
    landing,
    limit,
    tangent,
    total,
    whole_or,
)
from sphere_fused.backends.triton.segments import Segments, elements, read, write
from sphere_fused.rule import Landing

# Of a part: its Sums, in their order, and s.
S_BEFORE = tl.constexpr(len(Sums._fields))
PART_FIELDS = tl.constexpr(S_BEFORE.value + 1)


@triton.jit
def sum_part(at, begin, s, h, to, direction: tl.constexpr, shape: tl.constexpr):
    """Moves 1 and 2 of a part of each segment, which ends at at.dim, and s as it was, for
    `step_part`."""
    rows: tl.constexpr = 1 << (shape & 15)
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    ww = tl.zeros([rows, cols], tl.float64)
    wx, xx, gg, wg, gx, sw, sx = ww, ww, ww, ww, ww, ww, ww
    for done in range(limit(begin), limit(at.dim), cols):
        tile, _, _ = read(at, done, h, direction, shape)
        w, x, g = tile.w.to(tl.float64), tile.x.to(tl.float64), tile.g.to(tl.float64)
        ww += w * w
        wx += w * x
        xx += x * x
        gg += g * g
        if direction != "moment":
            wg += w * g
        if direction == "previous":
            gx += g * x
        elif direction != "moment":
            sw += w
            sx += x
    found = Sums(ww=ww, wx=wx, xx=xx, wg=wg, gg=gg, gx=gx, sw=sw, sx=sx)
    to = to + tl.arange(0, rows)
    for k in tl.static_range(S_BEFORE):
        tl.store(to + k * rows, total(found[k]))
    tl.store(to + S_BEFORE * rows, s.to(tl.float64))


@triton.jit
def sum_of_parts(parts, count, rows: tl.constexpr):
    """Each row's sum, always in the same order."""
    at_once: tl.constexpr = 128 // rows if rows < 128 else 1
    row = tl.arange(0, rows)[:, None]
    found = tl.zeros([rows, at_once], tl.float64)
    for first in range(0, limit(count), at_once):
        part = first + tl.arange(0, at_once)[None, :]
        at = parts + part * PART_FIELDS * rows + row
        found += tl.load(at, mask=part < count, other=0.0)
    return total(found)


@triton.jit
def step_part(
    at, begin, radius, parts, count, whole, h, step: tl.constexpr, land: tl.constexpr,
    surveys: tl.constexpr, direction: tl.constexpr, shape: tl.constexpr,
):  # fmt: skip
    """Moves 3 and 4 on a part of each segment; returns the new s of the whole ones.

    Products that were added up in double lose nothing to a closed form that float32 could keep.
    """
    rows: tl.constexpr = 1 << (shape & 15)
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    kind: tl.constexpr = at.m.dtype.element_ty
    ww = sum_of_parts(parts, count, rows)
    wx = sum_of_parts(parts + rows, count, rows)
    xx = sum_of_parts(parts + 2 * rows, count, rows)
    gg = sum_of_parts(parts + 4 * rows, count, rows)
    wg, gx, sw, sx, radial, hh, hx = xx, xx, xx, xx, xx, xx, xx
    if direction != "moment":
        wg = sum_of_parts(parts + 3 * rows, count, rows)
    if direction == "previous":
        gx = sum_of_parts(parts + 5 * rows, count, rows)
    elif direction != "moment":
        sw = sum_of_parts(parts + 6 * rows, count, rows)
        sx = sum_of_parts(parts + 7 * rows, count, rows)
    sums = Sums(ww=ww, wx=wx, xx=xx, wg=wg, gg=gg, gx=gx, sw=sw, sx=sx)
    if direction == "previous":
        radial, hh, hx, _ = tangent(sums)
    s = tl.load(parts + S_BEFORE * rows + tl.arange(0, rows)).to(kind)
    gram = gram_of(sums, hh, hx, radius, kind)
    if surveys:
        gram = whole_or(gram, whole, h)
    u = step(gram, s, h)
    if land is not None:
        yy, wy, xy, _ = landing(sums, u, h, direction)
        u = land(gram, Landing(yy=yy.to(kind), wy=wy.to(kind), xy=xy.to(kind)), u, h)
    of_rows = tl.zeros([rows], kind)
    for done in range(limit(begin), limit(at.dim), cols):
        tile, where, inside = elements(at, done, h, True, direction, shape)
        write(at, tile, where, inside, u, radial.to(kind), of_rows, direction, shape)
    return of_rows + u.s


@triton.jit
def until(at, end, vector: tl.constexpr):
    """The same segments as if they ended there."""
    return Segments(
        w=at.w,
        g=at.g,
        m=at.m,
        v=at.v,
        count=at.count,
        keep_m=at.keep_m,
        dim=tl.multiple_of(end, vector),
        inner=at.inner,
    )
