"""The core optimizers, transcribed line by line from their definitions.

Nothing here is fast or clever, and nothing is shared with the code under test: after every step the
new point is formed first and every inner product is then taken from the vectors themselves. In
float64 this is the oracle; in float32, with the weight rounded to its storage dtype after every
step, it is the straightforward transcription whose error the backends are measured by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

ADAM: dict[str, Any] = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "channel_dims": (0,),
    "decoupled_weight_decay": False,
    "maximize": False,
}
SGD: dict[str, Any] = {
    "lr": 0.1,
    "momentum": 0.0,
    "dampening": 0.0,
    "weight_decay": 0.0,
    "channel_dims": (0,),
    "decoupled_weight_decay": False,
    "maximize": False,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "AdamS": ADAM,
    "AdamST": ADAM,
    "AdamSRT": ADAM,
    "AdamG": {**ADAM, "lr": 1e-2, "betas": (0.9, 0.99), "grad_clip": None},
    "SGDMRT": SGD,
}


class Trajectory(NamedTuple):
    """Where a run ended: the weight and the optimizer's state, in the shapes the optimizer uses."""

    w: Tensor
    state: dict[str, Tensor]


class Rows(NamedTuple):
    """One tensor seen as a matrix with a segment in every row."""

    channel_shape: list[int]
    inside_shape: list[int]
    order: list[int]  # the dims that tell segments apart, then those inside a segment

    @property
    def segments(self) -> int:
        return math.prod(self.channel_shape)

    @property
    def dim(self) -> int:
        return math.prod(self.inside_shape)

    def split(self, t: Tensor) -> Tensor:
        return t.permute(self.order).reshape(self.segments, self.dim)

    def join(self, rows: Tensor) -> Tensor:
        return self._back(rows.reshape(self.channel_shape + self.inside_shape))

    def join_scalars(self, column: Tensor) -> Tensor:
        """One number per segment, in the shape of the tensor with size 1 inside segments."""
        return self._back(column.reshape(self.channel_shape + [1] * len(self.inside_shape)))

    def _back(self, t: Tensor) -> Tensor:
        return t.permute([self.order.index(d) for d in range(len(self.order))])


def rows_of(shape: Sequence[int], channel_dims: Sequence[int] | None) -> Rows:
    dims = range(len(shape))
    if channel_dims is None or not shape:
        channels = list(dims)
    else:
        channels = [d % len(shape) for d in channel_dims]
    inside = [d for d in dims if d not in channels]
    return Rows([shape[d] for d in channels], [shape[d] for d in inside], channels + inside)


class Point(NamedTuple):
    """All that changes in a step; `second` is S or v, and what an optimizer lacks stays zero."""

    w: Tensor
    moment: Tensor
    second: Tensor


def inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def norm(a: Tensor) -> Tensor:
    return inner(a, a).sqrt()


def coupled(w: Tensor, g: Tensor, h: dict[str, Any]) -> Tensor:
    """The gradient that the formulas call g."""
    if h["maximize"]:
        g = -g
    if not h["decoupled_weight_decay"] and h["weight_decay"] != 0:
        g = g + h["weight_decay"] * w
    return g


def decay(h: dict[str, Any]) -> float:
    return 1 - h["lr"] * h["weight_decay"] if h["decoupled_weight_decay"] else 1.0


def adams(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    w, m, s = p
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * inner(g, g)
    step = math.sqrt(w.shape[1]) * (m / bc1) / (s.sqrt() / math.sqrt(bc2) + h["eps"])
    return Point(decay(h) * w - h["lr"] * step, m, s)


def adamst(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    w, (new, m, s) = p.w, adams(p, g, t, h)
    there = norm(w) * norm(new) + h["eps"]
    carried = (inner(w, new) * m - inner(m, new) * w) / there
    return Point(new, torch.where(both_nonzero(w, new), carried, m), s)


def adamsrt(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    w, (new, m, s) = p.w, adams(p, g, t, h)
    n = inner(new, new) + h["eps"]
    carried = (inner(w, new) * m - inner(m, new) * w) / n
    rescaled = s * inner(w, w) / n
    moved = both_nonzero(w, new)
    return Point(new, torch.where(moved, carried, m), torch.where(moved, rescaled, s))


def sgdmrt(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    w = p.w
    b = h["momentum"] * p.moment + (1 - h["dampening"]) * g
    new = decay(h) * w - h["lr"] * b
    carried = (inner(w, new) * b - inner(b, new) * w) / inner(new, new)
    return Point(new, torch.where(both_nonzero(w, new), carried, b), p.second)


def both_nonzero(w: Tensor, new: Tensor) -> Tensor:
    return (inner(w, w) != 0) & (inner(new, new) != 0)


def adamg(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    w, m, s = p
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    w = w / norm(w)
    tangent = g - inner(g, w) * w
    if h["grad_clip"] is not None:
        size = norm(tangent)
        scale = (h["grad_clip"] / size).clamp(max=1.0)
        tangent = torch.where(size > 0, scale * tangent, tangent)
    m = beta1 * m + (1 - beta1) * tangent
    s = beta2 * s + (1 - beta2) * inner(tangent, tangent)
    d = -h["lr"] * math.sqrt(bc2) / bc1 * m / (s + h["eps"]).sqrt()
    angle = norm(d)
    sinc = torch.where(angle < 1e-4, 1 - angle**2 / 6, angle.sin() / angle)
    new = angle.cos() * w + sinc * d if h["lr"] > 0 else p.w
    return Point(new, angle.cos() * m + norm(m) * angle.sin() * w, s)


def adam(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    """torch.optim.Adam, or AdamW where the decay is decoupled."""
    w, m, v = p
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    step = (m / bc1) / (v.sqrt() / math.sqrt(bc2) + h["eps"])
    return Point(decay(h) * w - h["lr"] * step, m, v)


def sgd(p: Point, g: Tensor, t: int, h: dict[str, Any]) -> Point:
    """torch.optim.SGD, except that dampening scales the first gradient too."""
    b = h["momentum"] * p.moment + (1 - h["dampening"]) * g
    return Point(decay(h) * p.w - h["lr"] * b, b, p.second)


Step = Callable[[Point, Tensor, int, dict[str, Any]], Point]
STEPS: dict[str, tuple[Step, Step]] = {  # on segments, and where a segment is one element
    "AdamS": (adams, adam),
    "AdamST": (adamst, adam),
    "AdamSRT": (adamsrt, adam),
    "AdamG": (adamg, adam),
    "SGDMRT": (sgdmrt, sgd),
}


def trajectory(
    name: str,
    w0: Tensor,
    grads: Sequence[Tensor | None],
    *,
    dtype: torch.dtype = torch.float64,
    store: torch.dtype | None = None,
    **hyper: Any,
) -> Trajectory:
    """Run the optimizer called `name` from `w0`, one step per gradient.

    Args:
        name: the public class.
        w0: the weight before construction; any shape, strides and dtype. It is not changed.
        grads: one per step, in the shape of `w0`; None is a step that leaves the tensor out.
        dtype: of all arithmetic and of the state.
        store: the dtype that the weight is rounded to after construction and after every step.
        hyper: as the class takes them; its defaults for the rest.
    """
    unknown = set(hyper) - set(DEFAULTS[name])
    if unknown:
        raise TypeError(f"{name} has no hyperparameter {', '.join(sorted(unknown))}")
    h = {**DEFAULTS[name], **hyper}
    h["lr"] = float(h["lr"])
    rows = rows_of(tuple(w0.shape), h["channel_dims"])

    def stored(t: Tensor) -> Tensor:
        return t if store is None else t.to(store).to(dtype)

    w = rows.split(w0.detach().to(dtype))
    on_segments, on_elements = STEPS[name]
    one_element = rows.dim == 1 or w.numel() == 0
    step = on_elements if one_element else on_segments
    if name == "AdamG" and not one_element:
        w = w / norm(w)
    per_element = one_element and name != "SGDMRT"
    second = torch.zeros_like(w) if per_element else w.new_zeros(rows.segments, 1)
    p = Point(stored(w), torch.zeros_like(w), second)
    t = 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = coupled(p.w, rows.split(g.detach().to(dtype)), h)
        p = step(p, g, t, h)
        p = p._replace(w=stored(p.w))
    return Trajectory(rows.join(p.w), state_of(name, p, rows, h, per_element))


def state_of(
    name: str, p: Point, rows: Rows, h: dict[str, Any], per_element: bool
) -> dict[str, Tensor]:
    if name == "SGDMRT":
        return {"momentum_buffer": rows.join(p.moment)} if h["momentum"] != 0 else {}
    second = rows.join(p.second) if per_element else rows.join_scalars(p.second)
    return {"exp_avg": rows.join(p.moment), "exp_avg_sq": second}
