"""Moves 1, 2 and 4 in Triton, and the functions a rule may use: the counterpart of csrc/math.h."""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import linecache
from typing import Any, NamedTuple

import triton
import triton.language as tl

from sphere_fused.backends.triton.begin import GG, SHARED, SW, SX, WG, WW, WX, XX, hyper_type
from sphere_fused.check import parse
from sphere_fused.rule import Gram, Rule

# A closed form gives way to products measured on the difference itself where the ratio of what it
# subtracts to what it leaves exceeds this; as in csrc/math.h.
CANCELLING = tl.constexpr(4.0)


@triton.jit
def sqrt(a):
    if a.dtype == tl.float64:
        return tl.sqrt(a)
    else:
        return tl.sqrt_rn(a)


INTERPRETED = tl.constexpr(not isinstance(sqrt, triton.JITFunction))


@triton.jit
def reduced(a):
    """(r, sign) in double, |r| <= pi/2, with sin a = sign sin r and cos a = sign cos r.

    Triton's own sin needs memory of every thread for large arguments. These are a few per row.
    """
    a = a.to(tl.float64)
    n = tl.floor(a * 0.3183098861837907 + 0.5)
    # pi in two parts, so that the first product is exact.
    r = (a - n * 3.1415926534682512) - n * 1.2154201013012384e-10
    return r, 1.0 - 2.0 * (n - 2.0 * tl.floor(n * 0.5))


@triton.jit
def sin(a):
    r, sign = reduced(a)
    term = r
    found = r
    for i in tl.static_range(1, 12):
        term = term * (r * r * (-1.0 / (2 * i * (2 * i + 1))))
        found = found + term
    return (sign * found).to(a.dtype)


@triton.jit
def cos(a):
    r, sign = reduced(a)
    term = tl.zeros_like(r) + 1.0
    found = term
    for i in tl.static_range(1, 12):
        term = term * (r * r * (-1.0 / (2 * i * (2 * i - 1))))
        found = found + term
    return (sign * found).to(a.dtype)


@triton.jit
def where(condition, a, b):
    return tl.where(condition, a, b)


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


class Update(NamedTuple):
    """rule.Update; Triton 3.4 takes no plain number into a tuple."""

    s: Any
    a_w: Any
    a_x: Any
    a_h: Any = tl.constexpr(0.0)
    a_1: Any = tl.constexpr(0.0)
    b_w: Any = tl.constexpr(0.0)
    b_x: Any = tl.constexpr(1.0)
    b_h: Any = tl.constexpr(0.0)


FUNCTIONS = (sqrt, sin, cos, where, maximum, minimum)


@triton.jit
def truth(condition):
    if INTERPRETED:
        # A comparison of single numbers is a float to the interpreter, which & does not take.
        return tl.where(condition, 1, 0) != 0
    else:
        return condition


class InTriton(ast.NodeTransformer):
    """Rewrites what Triton reads otherwise than Python does."""

    def __init__(self, hyper: str) -> None:
        self.hyper = hyper

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """h.own.NAME becomes h.own_NAME; see hyper_type."""
        match node.value:
            case ast.Attribute(value=h, attr="own"):
                return ast.Attribute(h, f"own_{node.attr}", node.ctx)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """A number becomes one of the arithmetic: Triton's own are float32, or of no dtype."""
        if not isinstance(node.value, (int, float)):
            return node  # the docstring
        typed = f"_tl.full([], {float(node.value)!r}, {self.hyper}.lr.dtype)"
        return ast.parse(typed, mode="eval").body

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        compared: Any = self.generic_visit(node)
        return ast.Call(ast.Name("_truth", ast.Load()), [compared], [])


def compiled(name: str, source: str, label: str, names: dict[str, Any]) -> Any:
    """The function of that source for Triton, which reads it from where Python finds sources."""
    # Triton takes two functions of one name for the same.
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    file = f"<{label}, {digest}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), names)
    names[name].__qualname__ = f"{name}_{digest}"
    return triton.jit(names[name])


class Functions(NamedTuple):
    """Those of a rule, by their names there; None where it has none."""

    step: Any = None
    land: Any = None
    peak: Any = None
    verdict: Any = None


@functools.cache
def bound(rule: Rule) -> Functions:
    """The functions of a rule for Triton: their source, with this file's vocabulary."""
    functions = {}
    for parsed in parse(rule):
        hyper = next(name for name, kind in parsed.arguments.items() if kind == "Hyper")
        tree = InTriton(hyper).visit(copy.deepcopy(parsed.tree))
        # Triton would look up what they name.
        tree.returns = None
        for argument in tree.args.args:
            argument.annotation = None
        names = {f.__name__: f for f in FUNCTIONS} | {"Update": Update}
        names |= {"_tl": tl, "_truth": truth}
        module, name = parsed.function.__module__, parsed.function.__qualname__
        label = f"rule {module}.{name} of {rule.name}"
        functions[parsed.role] = compiled(
            tree.name, ast.unparse(tree), label, {**names, "__name__": module}
        )
    return Functions(**functions)


@functools.cache
def hyper_of(own: tuple[str, ...]) -> Any:
    """What reads a tensor's hyperparameters, those of a rule's own among them."""
    # Between the two is whether the tensor is to be stepped.
    at = {name: i for i, name in enumerate([*SHARED, None, *(f"own_{n}" for n in own)]) if name}
    values = ", ".join(f"{name}=tl.load(row + {i}).to(kind)" for name, i in at.items())
    source = f"def hyper_of(row, kind: tl.constexpr):\n    return Hyper({values})\n"
    names = {"tl": tl, "Hyper": hyper_type(own), "__name__": __name__}
    return compiled("hyper_of", source, f"hyperparameters {own}", names)


class Tile(NamedTuple):
    """What a program holds of some segments, one per row."""

    w: Any
    x: Any
    g: Any
    m: Any  # updated, where the rule leaves that to move 1
    v: Any  # likewise


@triton.jit
def divided(a, b):
    """Correctly rounded, which `/` is not on every GPU."""
    if a.dtype == tl.float64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def moved(w, g, m, v, inside, h, again: tl.constexpr, direction: tl.constexpr):
    """Move 1; `again`: m and v have made it before."""
    g = h.unscale * g + h.l2 * w
    x = m
    if direction == "nesterov" or direction == "sign":
        x = h.x_m * m + h.x_g * g
    if direction == "sign":
        x = (x > 0.0).to(x.dtype) - (x < 0.0).to(x.dtype)
    if direction != "previous" and not again:
        m = h.beta1 * m + h.gain1 * g
    if direction == "moment":
        x = m
    if direction == "adam":
        if not again:
            v = h.beta2 * v + h.gain2 * g * g
        x = divided(h.x_m * m + h.x_g * g, sqrt(v) + h.x_eps)
        # What lies outside of the tensor is 0/0 where eps is 0.
        x = tl.where(inside, x, 0.0)
    return Tile(w=w, x=x, g=g, m=m, v=v)


@triton.jit
def stored(y, kind: tl.constexpr):
    """Rounded to the nearest number of the dtype in memory."""
    if kind == tl.bfloat16 and INTERPRETED:
        # The interpreter cuts off the bits that a GPU rounds by.
        bits = y.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return tl.where(y == y, bits, 0x7FC0).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return y.to(kind)


@triton.jit
def limit(n):
    """The end of a range. In the interpreter a number: that of Triton 3.4 would have NumPy make one
    of an array, as NumPy no longer does."""
    if INTERPRETED:
        return n.handle.data.item()
    else:
        return n


@triton.jit
def total(products):
    return tl.sum(products, axis=1)


@triton.jit
def spread(value, like):
    """A coefficient, which may be one number for all rows, in the shape of `like`, one row each."""
    return (tl.zeros_like(like) + value)[:, None]


class Sums(NamedTuple):
    """Those of move 2, as in rule.Gram. Some a direction does not need, and nobody reads."""

    ww: Any
    wx: Any
    xx: Any
    wg: Any
    gg: Any
    gx: Any
    sw: Any
    sx: Any


@triton.jit
def gram_of(sums, hh, hx, radius, kind: tl.constexpr):
    return Gram(
        ww=sums.ww.to(kind), wx=sums.wx.to(kind), xx=sums.xx.to(kind), wg=sums.wg.to(kind),
        gg=sums.gg.to(kind), gx=sums.gx.to(kind), hh=hh.to(kind), hx=hx.to(kind),
        sw=sums.sw.to(kind), sx=sums.sx.to(kind), radius=radius,
    )  # fmt: skip


@triton.jit
def whole_or(gram, whole, h):
    """The products of the whole tensor where that is one segment, else these."""
    is_whole = h.verdict > 1.0
    kind: tl.constexpr = gram.ww.dtype
    return Gram(
        ww=tl.where(is_whole, tl.load(whole + WW).to(kind), gram.ww),
        wx=tl.where(is_whole, tl.load(whole + WX).to(kind), gram.wx),
        xx=tl.where(is_whole, tl.load(whole + XX).to(kind), gram.xx),
        wg=tl.where(is_whole, tl.load(whole + WG).to(kind), gram.wg),
        gg=tl.where(is_whole, tl.load(whole + GG).to(kind), gram.gg),
        gx=gram.gx,
        hh=gram.hh,
        hx=gram.hx,
        sw=tl.where(is_whole, tl.load(whole + SW).to(kind), gram.sw),
        sx=tl.where(is_whole, tl.load(whole + SX).to(kind), gram.sx),
        radius=gram.radius,
    )


@triton.jit
def landing(sums, u, h, direction: tl.constexpr):
    """The new point's products in closed form, and whether that loses digits, or has overflowed."""
    # In this order, because the square of a small coefficient may be 0 where its term is not.
    from_w = u.a_w * (u.a_w * sums.ww)
    from_x = u.a_x * (u.a_x * sums.xx)
    terms = from_w + from_x
    yy = terms + 2.0 * u.a_w * (u.a_x * sums.wx)
    wy = u.a_w * sums.ww + u.a_x * sums.wx
    xy = u.a_w * sums.wx + u.a_x * sums.xx
    if direction != "moment":
        from_1 = u.a_1 * (u.a_1 * h.dim)
        terms += from_1
        yy += from_1 + 2.0 * u.a_1 * (u.a_w * sums.sw + u.a_x * sums.sx)
        wy += u.a_1 * sums.sw
        xy += u.a_1 * sums.sx
    keeps = terms - yy * CANCELLING <= 0.0
    return yy, wy, xy, keeps == 0


@triton.jit
def tangent(sums):
    """The radial part of g, the products of h with itself and with x in closed form, and whether
    that loses digits."""
    radial = tl.where(sums.ww > 0.0, sums.wg / sums.ww, 0.0)
    hh = sums.gg - radial * sums.wg
    return radial, hh, sums.gx - radial * sums.wx, hh * CANCELLING < sums.gg


@triton.jit
def any_of(conditions):
    return tl.max(conditions.to(tl.int32), axis=0) != 0
