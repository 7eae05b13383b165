"""AdamS, AdamST, AdamSRT, AdamG and SGDMRT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .classic import adam, adamw, coupled, decayed
from .rows import Hyper, Oracle, State, inner, norm


def gradient(w: Tensor, g: Tensor, h: Hyper) -> Tensor:
    """What the formulas call g."""
    return g if h["decoupled_weight_decay"] else coupled(w, g, h)


def remaining(w: Tensor, h: Hyper) -> Tensor:
    return decayed(w, h) if h["decoupled_weight_decay"] else w


def adams(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    g = gradient(w, g, h)
    m = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
    s = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * inner(g, g)
    step = math.sqrt(w.shape[1]) * (m / bc1) / (s.sqrt() / math.sqrt(bc2) + h["eps"])
    return remaining(w, h) - h["lr"] * step, {"exp_avg": m, "exp_avg_sq": s}


def adamst(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    new, state = adams(w, g, state, t, h)
    m = state["exp_avg"]
    there = norm(w) * norm(new) + h["eps"]
    carried = (inner(w, new) * m - inner(m, new) * w) / there
    return new, {**state, "exp_avg": torch.where(both_nonzero(w, new), carried, m)}


def adamsrt(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    new, state = adams(w, g, state, t, h)
    m, s = state["exp_avg"], state["exp_avg_sq"]
    n = inner(new, new) + h["eps"]
    carried = (inner(w, new) * m - inner(m, new) * w) / n
    rescaled = s * inner(w, w) / n
    moved = both_nonzero(w, new)
    m, s = torch.where(moved, carried, m), torch.where(moved, rescaled, s)
    return new, {"exp_avg": m, "exp_avg_sq": s}


def both_nonzero(w: Tensor, new: Tensor) -> Tensor:
    return (inner(w, w) != 0) & (inner(new, new) != 0)


def adamg(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    g, old = gradient(w, g, h), w
    w = on_sphere(w, h)
    tangent = g - inner(g, w) * w
    if h["grad_clip"] is not None:
        size = norm(tangent)
        scale = (h["grad_clip"] / size).clamp(max=1.0)
        tangent = torch.where(size > 0, scale * tangent, tangent)
    m = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * tangent
    s = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * inner(tangent, tangent)
    d = -h["lr"] * math.sqrt(bc2) / bc1 * m / (s + h["eps"]).sqrt()
    angle = norm(d)
    sinc = torch.where(angle < 1e-4, 1 - angle**2 / 6, angle.sin() / angle)
    new = angle.cos() * w + sinc * d if h["lr"] > 0 else old
    return new, {"exp_avg": angle.cos() * m + norm(m) * angle.sin() * w, "exp_avg_sq": s}


def on_sphere(w: Tensor, h: Hyper) -> Tensor:
    return w / norm(w)


def adam_or_adamw(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    step = adamw if h["decoupled_weight_decay"] else adam
    return step(w, g, state, t, h)


def buffer(w: Tensor, g: Tensor, state: State, h: Hyper) -> Tensor:
    damped = (1 - h["dampening"]) * gradient(w, g, h)
    return h["momentum"] * state.get("momentum_buffer", 0.0) + damped


def sgdmrt(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    b = buffer(w, g, state, h)
    new = remaining(w, h) - h["lr"] * b
    carried = (inner(w, new) * b - inner(b, new) * w) / inner(new, new)
    b = torch.where(both_nonzero(w, new), carried, b)
    return new, {"momentum_buffer": b} if h["momentum"] != 0 else {}


def damped_sgd(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    """torch.optim.SGD, except that dampening scales the first gradient too."""
    b = buffer(w, g, state, h)
    return remaining(w, h) - h["lr"] * b, {"momentum_buffer": b} if h["momentum"] != 0 else {}


ADAM: Hyper = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "channel_dims": (0,),
    "decoupled_weight_decay": False,
    "maximize": False,
}
SGD: Hyper = {
    "lr": 0.1,
    "momentum": 0.0,
    "dampening": 0.0,
    "weight_decay": 0.0,
    "channel_dims": (0,),
    "decoupled_weight_decay": False,
    "maximize": False,
}
ADAMG: Hyper = {**ADAM, "lr": 1e-2, "betas": (0.9, 0.99), "grad_clip": None}
ORACLES = {
    "AdamS": Oracle(ADAM, adams, adam_or_adamw),
    "AdamST": Oracle(ADAM, adamst, adam_or_adamw),
    "AdamSRT": Oracle(ADAM, adamsrt, adam_or_adamw),
    "AdamG": Oracle(ADAMG, adamg, adam_or_adamw, construct=on_sphere),
    "SGDMRT": Oracle(SGD, sgdmrt, damped_sgd),
}
