"""RotationalAdamW, RotationalSGDM and RotationalLion: every segment turns by a set angle."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .classic import adamw, direction, lion, momentum, sgd, sign
from .rows import REQUIRED, Hyper, Oracle, Rows, State, at_radius, inner, norm


def rotated(
    w: Tensor, u: Tensor, eta: float, state: State, t: int, h: Hyper
) -> tuple[Tensor, State]:
    """The weight after a turn along u, and what is kept for it."""
    n = state.get("radius", norm(w))
    d = centred(u) if h["zero_mean"] else u
    d = d - w * inner(d, w) / (n * n)
    factor = h["update_norm_decay_factor"]
    q = factor * state.get("update_norm_sq", 0.0) + (1 - factor) * inner(d, d)
    d = d / ((q / (1 - factor**t)).sqrt() + h["rotational_eps"])
    return at_radius(n, w - eta * n * d, w), {"radius": n, "update_norm_sq": q}


def centred(a: Tensor) -> Tensor:
    return a - a.mean(dim=1, keepdim=True)


def centred_at_its_norm(w: Tensor, h: Hyper) -> Tensor:
    return at_radius(norm(w), centred(w), w) if h["zero_mean"] else w


def rotational_adamw(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    beta1, _ = h["betas"]
    eta = math.sqrt(2 * h["lr"] * h["weight_decay"] * (1 - beta1) / (1 + beta1))
    u, moments = direction(g, state, t, h)
    w, turned = rotated(w, u, eta, state, t, h)
    return w, {**moments, **turned}


def rotational_sgdm(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    eta = math.sqrt(2 * h["lr"] * h["weight_decay"] / (1 + h["momentum"]))
    u, moments = momentum(g, state, h)
    w, turned = rotated(w, u, eta, state, t, h)
    return w, {**moments, **turned}


def rotational_lion(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    beta1, beta2 = h["betas"]
    spread = math.sqrt((1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2))
    eta = math.sqrt(math.pi / 2) * math.sqrt(2 * h["lr"] * h["weight_decay"]) * spread
    u, moments = sign(g, state, h)
    w, turned = rotated(w, u, eta, state, t, h)
    return w, {**moments, **turned}


def not_turned(shape: Sequence[int], rows: Rows, h: Hyper) -> bool:
    return len(shape) < 2 or rows.dim == 1 or h["weight_decay"] == 0


ROTATIONAL: Hyper = {
    "zero_mean": True,
    "update_norm_decay_factor": 0.9,
    "rotational_eps": 1e-8,
    "channel_dims": (0,),
    "maximize": False,
}
ADAMW: Hyper = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 1e-2,
    **ROTATIONAL,
}
SGDM: Hyper = {
    "lr": REQUIRED,
    "momentum": 0.0,
    "weight_decay": REQUIRED,
    "nesterov": False,
    **ROTATIONAL,
}
LION: Hyper = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": REQUIRED, **ROTATIONAL}
ORACLES = {
    "RotationalAdamW": Oracle(ADAMW, rotational_adamw, adamw, not_turned, centred_at_its_norm),
    "RotationalSGDM": Oracle(SGDM, rotational_sgdm, sgd, not_turned, centred_at_its_norm),
    "RotationalLion": Oracle(LION, rotational_lion, lion, not_turned, centred_at_its_norm),
}
