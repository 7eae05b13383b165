"""Segments so long that several programs step parts of each: their sums, then their update."""

from __future__ import annotations

import triton
import triton.language as tl

from sphere_fused.backends.triton.moves import landing, limit, tangent, total
from sphere_fused.backends.triton.segments import Segments, read, write
from sphere_fused.rule import Gram, Landing


@triton.jit
def sum_part(at, begin, s, h, to, direction: tl.constexpr, shape: tl.constexpr):
    """Move 2 of a part of each segment, which ends at at.dim, and s as it was, for `step_part`."""
    rows: tl.constexpr = 1 << (shape & 15)
    cols: tl.constexpr = 1 << (shape >> 4 & 15)
    ww = tl.zeros([rows, cols], tl.float64)
    wx, xx, gg, wg, gx = ww, ww, ww, ww, ww
    for done in range(limit(begin), limit(at.dim), cols):
        tile, _, _ = read(at, done, h, direction, shape)
        w, x, g = tile.w.to(tl.float64), tile.x.to(tl.float64), tile.g.to(tl.float64)
        ww += w * w
        wx += w * x
        xx += x * x
        gg += g * g
        if direction == "previous":
            wg += w * g
            gx += g * x
    to = to + tl.arange(0, rows)
    tl.store(to, total(ww))
    tl.store(to + rows, total(wx))
    tl.store(to + 2 * rows, total(xx))
    tl.store(to + 3 * rows, total(wg))
    tl.store(to + 4 * rows, total(gg))
    tl.store(to + 5 * rows, total(gx))
    tl.store(to + 6 * rows, s.to(tl.float64))


@triton.jit
def sum_of_parts(parts, count, rows: tl.constexpr):
    """Each row's sum, always in the same order."""
    at_once: tl.constexpr = 128 // rows if rows < 128 else 1
    row = tl.arange(0, rows)[:, None]
    found = tl.zeros([rows, at_once], tl.float64)
    for first in range(0, limit(count), at_once):
        part = first + tl.arange(0, at_once)[None, :]
        found += tl.load(parts + part * 7 * rows + row, mask=part < count, other=0.0)
    return total(found)


@triton.jit
def step_part(
    at, begin, parts, count, h, step: tl.constexpr, land: tl.constexpr,
    direction: tl.constexpr, shape: tl.constexpr,
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
    wg, gx, hh, hx, radial = xx, xx, xx, xx, xx
    gg = sum_of_parts(parts + 4 * rows, count, rows)
    if direction == "previous":
        wg = sum_of_parts(parts + 3 * rows, count, rows)
        gx = sum_of_parts(parts + 5 * rows, count, rows)
        radial, hh, hx, _ = tangent(ww, wx, wg, gg, gx)
    s = tl.load(parts + 6 * rows + tl.arange(0, rows)).to(kind)
    gram = Gram(
        ww=ww.to(kind), wx=wx.to(kind), xx=xx.to(kind), wg=wg.to(kind),
        gg=gg.to(kind), gx=gx.to(kind), hh=hh.to(kind), hx=hx.to(kind),
    )  # fmt: skip
    u = step(gram, s, h)
    if land is not None:
        yy, wy, xy, _ = landing(ww, wx, xx, u)
        u = land(gram, Landing(yy=yy.to(kind), wy=wy.to(kind), xy=xy.to(kind)), u, h)
    of_rows = tl.zeros([rows], kind)
    for done in range(limit(begin), limit(at.dim), cols):
        tile, where, inside = read(at, done, h, direction, shape)
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
