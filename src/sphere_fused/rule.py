"""What an optimizer is: a few scalar lines per segment, written once for every backend.

A backend does the same four moves on every segment; an optimizer only supplies the third.

    1  moments   m <- beta1 m + (1-beta1) g, and v likewise where v is kept per element
    2  Gram      the inner products of w, x and g over the segment
    3  rule      (Gram, s, Hyper) -> Update                       the optimizer
    4  combine   w <- a_w w + a_x x + a_1 + a_h h;  m <- b_w w + b_x x + b_h h

x is the direction, one of `Rule.direction`; h is the gradient without its radial part, as in Gram.

A rule may use the named tuples below, + - * /, comparisons, & and |, and the functions of this
module. It is compiled from its source, so it must live in a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

# One number per segment: a tensor in the reference, a register in compiled code.
Scalar: TypeAlias = Any


class Gram(NamedTuple):
    """Inner products over one segment of the weight w, the gradient g and the direction x.

    The direction of a rule decides which of them there are; see DIRECTIONS.
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
    sw: Scalar  # the sum of the elements of w
    sx: Scalar  # and of x
    radius: Scalar  # not a product: the norm the segment is to keep, where the rule keeps one


# What a rule finds in its Gram besides ww, wx, xx and gg, by its direction.
DIRECTIONS: dict[str, tuple[str, ...]] = {
    "moment": (),
    "previous": ("wg", "gx", "hh", "hx"),
    "adam": ("wg", "sw", "sx"),
    "nesterov": ("wg", "sw", "sx"),
    "sign": ("wg", "sw", "sx"),
}


class Tangent(NamedTuple):
    """Inner products of h, as in Gram, with itself and with x."""

    hh: Scalar
    hx: Scalar


class Landing(NamedTuple):
    """Inner products of y = a_w w + a_x x + a_1, mostly the new point, with itself, w and x."""

    yy: Scalar
    wy: Scalar
    xy: Scalar


class Hyper(NamedTuple):
    """Hyperparameters of one step of one tensor, formed in double before they are rounded."""

    lr: Scalar
    beta1: Scalar  # decay of the first moment
    gain1: Scalar  # weight of the new gradient in it: 1 - beta1, or 1 - dampening
    beta2: Scalar
    gain2: Scalar  # 1 - beta2
    beta3: Scalar  # decay of what else a rule averages
    gain3: Scalar  # 1 - beta3
    bc1: Scalar  # 1 - beta1**t, or 1 where moments are not corrected
    bc2: Scalar  # 1 - beta2**t, likewise
    bc3: Scalar  # 1 - beta3**t
    t: Scalar  # the number of the step, 1 for the first
    eps: Scalar
    weight_decay: Scalar
    decay: Scalar  # 1 - lr * weight_decay where the decay is decoupled, else 1
    grad_clip: Scalar  # infinity where there is none
    dim: Scalar  # elements in a segment
    sqrt_dim: Scalar
    numel: Scalar  # elements in the tensor
    l2: Scalar  # what move 1 adds of w to the gradient: the coupled weight decay
    unscale: (
        Scalar  # what move 1 multiplies the gradient by before: 1 / grad_scale, < 0 to maximize
    )
    x_m: Scalar  # of what x is made; see Rule.direction
    x_g: Scalar
    x_eps: Scalar
    verdict: Scalar = 1.0  # what Rule.verdict has said of the tensor
    own: Any = ()  # a named tuple of the hyperparameters that a Rule has of its own


class Update(NamedTuple):
    """What a rule decides: the new segment state s and the coefficients of move 4.

    a_h, b_w, b_x and b_h are for the directions "moment" and "previous", a_1 for the others, which
    store m as move 1 has updated it.
    """

    s: Scalar
    a_w: Scalar
    a_x: Scalar
    a_h: Scalar = 0.0
    a_1: Scalar = 0.0
    b_w: Scalar = 0.0
    b_x: Scalar = 1.0
    b_h: Scalar = 0.0
    radial: Scalar = 0.0  # of h = g - radial w; the backend fills it in


Step: TypeAlias = Callable[[Gram, Scalar, Hyper], Update]
Land: TypeAlias = Callable[[Gram, Landing, Update, Hyper], Update]
Peak: TypeAlias = Callable[[Gram, Hyper], Scalar]
Verdict: TypeAlias = Callable[[Gram, Scalar, Hyper], Scalar]


@dataclass(frozen=True)
class Rule:
    """One optimizer.

    Args:
        name: its name in every backend and in messages.
        step: `(gram, s, hyper) -> Update`, the step itself.
        land: `(gram, landing, update, hyper) -> Update`, for a rule that needs to know where the
            step ended, or how long what it makes of w and x is. The backend supplies the products
            of y = a_w w + a_x x + a_1, from the Gram or, where that would cancel, measured on y
            itself; what `land` returns is carried out. Such a rule leaves a_h at 0.
        direction: what x is.
            "moment": m, updated.
            "previous": m before the update, which move 4 then makes; such a rule has no `land`.
            "adam": Adam's (x_m m + x_g g) / (sqrt(v) + x_eps), m updated; x_g is
                0 but for Nesterov.
            "nesterov": x_m m + x_g g, m before the update.
            "sign": the sign of that.
        second_moment: what `exp_avg_sq` holds: one number per "segment" (it is the rule's s), one
            per "element" (where the direction is "adam", and only there), or None.
        segment_state: the key under which the optimizer's state keeps s where it is no second
            moment, or None.
        keeps_radius: whether the state keeps, as `radius`, the norm that each segment had before
            the first step, or what the class says; it is `gram.radius`.
        decays: whether weight decay is applied as the group says, coupled or not; else it is the
            rule's to read.
        peak, verdict: for a rule that must see the whole tensor first. `(gram, hyper) -> number` of
            each segment, from ww, wg and gg only; and, of those of the whole tensor and the largest
            such number, `(whole, peak, hyper) -> number`, which `step` reads as h.verdict. Where it
            is above 1, the tensor is one segment: `step` is given the products of all of it. Such a
            rule has no `land`.
        own: names of hyperparameters of the rule's own, read as h.own.NAME. They become arguments
            of the optimizer and keys of its groups.
    """

    name: str
    step: Step
    land: Land | None = None
    direction: Literal["moment", "previous", "adam", "nesterov", "sign"] = "moment"
    second_moment: Literal["segment", "element"] | None = "segment"
    segment_state: str | None = None
    keeps_radius: bool = False
    decays: bool = True
    peak: Peak | None = None
    verdict: Verdict | None = None
    own: tuple[str, ...] = ()

    @property
    def functions(self) -> list[Any]:
        return [f for f in (self.step, self.land, self.peak, self.verdict) if f is not None]

    @property
    def key(self) -> str:
        """What no other rule has, whatever its name."""
        values = [getattr(self, field.name) for field in fields(self) if field.name != "name"]
        return " ".join(
            f"{v.__module__}.{v.__qualname__}" if callable(v) else str(v) for v in values
        )

    @property
    def state_key(self) -> str | None:
        """Where the state keeps s."""
        return "exp_avg_sq" if self.second_moment == "segment" else self.segment_state


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
