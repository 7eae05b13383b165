"""The four moves on the segments that one program holds.

Segments that fit stay in registers between the two sweeps; longer ones are read twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from sphere_fused.backends.triton.moves import (
    any_of,
    landing,
    limit,
    moved,
    spread,
    stored,
    tangent,
    total,
)
from sphere_fused.rule import Gram, Landing

# A shape is a number, because not every Triton passes a tuple on: from its lowest bit on
#   4 bits  log2 of rows: how many segments a program takes
#   4 bits  log2 of cols: how many elements of each it holds at once
#   4 bits  log2 of vector: addresses, in elements, and lengths are multiples of it
#   1 bit   held: those are all elements, so that each is read once
#   1 bit   across: neighbours in memory are of different segments
#   1 bit   single: segments of one element, which the classic rule steps
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
        for done in range(cols, limit(at.dim), cols):
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
        for done in range(cols, limit(at.dim), cols):
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
        for done in range(0, limit(at.dim), cols):
            more, of_more, within = read(at, done, h, direction, shape)
            write(at, more, of_more, within, u, radial, ww, direction, shape)
    return tl.zeros_like(ww) + u.s
