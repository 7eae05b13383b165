"""AdamP and SGDP: a direction without its radial part, where the gradient has little of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .classic import adamw, direction
from .rows import Hyper, Oracle, Rows, State, inner, norm


def cosine(g: Tensor, w: Tensor, eps: float) -> Tensor:
    return inner(g, w).abs() / (norm(g).clamp(min=eps) * norm(w).clamp(min=eps))


def without_radial_part(u: Tensor, w: Tensor, eps: float) -> Tensor:
    n = w / (norm(w) + eps)
    return u - inner(n, u) * n


def projected(u: Tensor, g: Tensor, w: Tensor, h: Hyper) -> tuple[Tensor, Tensor]:
    """u, projected or not, and the factor on weight decay, both by filter."""
    eps, delta = h["eps"], h["delta"]
    ratio = torch.ones_like(norm(w))
    chosen = cosine(g, w, eps) < delta / math.sqrt(w.shape[1])
    if h["decision"] == "filter":
        u = torch.where(chosen, without_radial_part(u, w, eps), u)
        return u, torch.where(chosen, h["wd_ratio"] * ratio, ratio)
    if bool(chosen.all()):
        return without_radial_part(u, w, eps), h["wd_ratio"] * ratio
    whole_w, whole_g, whole_u = (t.reshape(1, -1) for t in (w, g, u))
    if bool(cosine(whole_g, whole_w, eps) < delta / math.sqrt(w.numel())):
        u = without_radial_part(whole_u, whole_w, eps).reshape(w.shape)
        return u, h["wd_ratio"] * ratio
    return u, ratio


def adamp_direction(g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = direction(g, state, t, h)
    if h["nesterov"]:
        (beta1, beta2), m, v = h["betas"], state["exp_avg"], state["exp_avg_sq"]
        m = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
        u = m / (v.sqrt() / math.sqrt(1 - beta2**t) + h["eps"])
    return u, state


def adamp(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = adamp_direction(g, state, t, h)
    u, ratio = projected(u, g, w, h)
    return w * (1 - h["lr"] * h["weight_decay"] * ratio) - h["lr"] * u, state


def adamp_unprojected(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    if not h["nesterov"]:
        return adamw(w, g, state, t, h)
    u, state = adamp_direction(g, state, t, h)
    return w * (1 - h["lr"] * h["weight_decay"]) - h["lr"] * u, state


def sgdp_direction(g: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
    b = h["momentum"] * state.get("momentum_buffer", 0.0) + (1 - h["dampening"]) * g
    u = g + h["momentum"] * b if h["nesterov"] else b
    return u, {"momentum_buffer": b} if h["momentum"] != 0 else {}


def sgdp(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = sgdp_direction(g, state, h)
    u, ratio = projected(u, g, w, h)
    return w * (1 - h["lr"] * h["weight_decay"] * ratio / (1 - h["momentum"])) - h["lr"] * u, state


def sgdp_unprojected(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = sgdp_direction(g, state, h)
    return w * (1 - h["lr"] * h["weight_decay"] / (1 - h["momentum"])) - h["lr"] * u, state


def below_two_dims(shape: Sequence[int], rows: Rows, h: Hyper) -> bool:
    return len(shape) < 2


ADAMP: Hyper = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "delta": 0.1,
    "wd_ratio": 0.1,
    "nesterov": False,
    "decision": "tensor",
    "maximize": False,
}
SGDP: Hyper = {
    "lr": 0.1,
    "momentum": 0.0,
    "dampening": 0.0,
    "weight_decay": 0.0,
    "nesterov": False,
    "eps": 1e-8,
    "delta": 0.1,
    "wd_ratio": 0.1,
    "decision": "tensor",
    "maximize": False,
}
ORACLES = {
    "AdamP": Oracle(ADAMP, adamp, adamp_unprojected, below_two_dims),
    "SGDP": Oracle(SGDP, sgdp, sgdp_unprojected, below_two_dims),
}
