"""What an optimizer is: a few scalar lines per segment, written once for every backend.

A backend does the same four moves on every segment; an optimizer only supplies the third.

    1  moments   m <- beta1 m + (1-beta1) g, and v likewise where v is kept per element
    2  Gram      the inner products of w, x and g over the segment
    3  rule      (Gram, s, Hyper) -> Update                       the optimizer
    4  combine   w <- a_w w + a_x x + a_g h;  m <- b_w w + b_x x + b_g h

h is the gradient without its radial part, as in Gram.

A rule may use the named tuples below, + - * /, comparisons, & and |, and the functions of this
module. It is compiled from its source, so it must live in a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

# One number per segment: a tensor in the reference, a register in compiled code.
Scalar: TypeAlias = Any


class Gram(NamedTuple):
    """Inner products over one segment of the weight w, the gradient g and the direction x.

    wg, gx, hh and hx are there for rules whose direction is "previous", and for no others.
    h = g - w wg/ww is the gradient without its radial part.
    """

    ww: Scalar
    wx: Scalar
    xx: Scalar
    wg: Scalar
    gg: Scalar
    gx: Scalar
    hh: Scalar
    hx: Scalar


class Tangent(NamedTuple):
    """Inner products of h, as in Gram, with itself and with x."""

    hh: Scalar
    hx: Scalar


class Landing(NamedTuple):
    """Inner products of the new point y = a_w w + a_x x with itself, with w and with x."""

    yy: Scalar
    wy: Scalar
    xy: Scalar


class Hyper(NamedTuple):
    """Hyperparameters of one step of one tensor, formed in double before they are rounded."""

    lr: Scalar
    beta1: Scalar  # decay of the first moment
    gain1: Scalar  # weight of the new gradient in it: 1 - beta1, or 1 - dampening; < 0 to maximize
    beta2: Scalar
    gain2: Scalar  # 1 - beta2
    bc1: Scalar  # 1 - beta1**t
    bc2: Scalar  # 1 - beta2**t
    eps: Scalar
    decay: Scalar  # 1 - lr * weight_decay where the decay is decoupled, else 1
    grad_clip: Scalar  # infinity where there is none
    sqrt_dim: Scalar  # square root of the number of elements in a segment
    weight_decay: Scalar  # the coupled one, which move 1 adds to the gradient; < 0 to maximize
    unscale: Scalar  # 1 / grad_scale, which the gradient is multiplied by before all else
    own: Any = ()  # a named tuple of the hyperparameters that a Rule has of its own


class Update(NamedTuple):
    """What a rule decides: the new segment state s and the coefficients of move 4."""

    s: Scalar
    a_w: Scalar
    a_x: Scalar
    a_h: Scalar = 0.0
    b_w: Scalar = 0.0
    b_x: Scalar = 1.0
    b_h: Scalar = 0.0
    radial: Scalar = 0.0  # of h = g - radial w; the backend fills it in


Step: TypeAlias = Callable[[Gram, Scalar, Hyper], Update]
Land: TypeAlias = Callable[[Gram, Landing, Update, Hyper], Update]


@dataclass(frozen=True)
class Rule:
    """One optimizer.

    Args:
        name: its name in every backend and in messages.
        step: `(gram, s, hyper) -> Update`, the step itself.
        land: `(gram, landing, update, hyper) -> Update`, for a rule that needs to know where the
            step ended. The backend supplies the landing's products, from the Gram or, where that
            would cancel, measured on the new point itself. Such a rule leaves a_h at 0.
        direction: what x is. "moment": the updated first moment. "previous": the first moment
            before the update, which move 4 then updates; such a rule has no `land`. "adam":
            Adam's elementwise direction (m/bc1) / (sqrt(v/bc2) + eps); m is then stored as
            updated, whatever b_* say.
        second_moment: what `exp_avg_sq` holds: one number per "segment" (it is the rule's s), one
            per "element", or None.
        own: names of hyperparameters of the rule's own, read as h.own.NAME. They become arguments
            of the optimizer and keys of its groups.
    """

    name: str
    step: Step
    land: Land | None = None
    direction: Literal["moment", "previous", "adam"] = "moment"
    second_moment: Literal["segment", "element"] | None = "segment"
    own: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What no other rule has, whatever its name."""
        functions = [f for f in (self.step, self.land) if f is not None]
        return " ".join([self.direction, *(f"{f.__module__}.{f.__qualname__}" for f in functions)])


# NaN where math would raise: what `where` leaves out is computed all the same.
def sqrt(a: Scalar) -> Scalar:
    if isinstance(a, torch.Tensor):
        return a.sqrt()
    return math.sqrt(a) if a >= 0 else math.nan


def sin(a: Scalar) -> Scalar:
    if isinstance(a, torch.Tensor):
        return a.sin()
    return math.sin(a) if math.isfinite(a) else math.nan


def cos(a: Scalar) -> Scalar:
    if isinstance(a, torch.Tensor):
        return a.cos()
    return math.cos(a) if math.isfinite(a) else math.nan


def where(condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
    if isinstance(condition, torch.Tensor):
        if not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor):
            # Of two numbers torch would make float32.
            a = torch.full((), a, dtype=torch.float64, device=condition.device)
        return torch.where(condition, a, b)
    return a if condition else b


def maximum(a: Scalar, b: Scalar) -> Scalar:
    """The larger of two; NaN if either is."""
    if isinstance(a, torch.Tensor):
        return a.clamp(min=b)
    if isinstance(b, torch.Tensor):
        return b.clamp(min=a)
    return where(b > a or b != b, b, a)


def minimum(a: Scalar, b: Scalar) -> Scalar:
    """The smaller of two; NaN if either is."""
    return -maximum(-a, -b)
