"""RiemannianAdam and RiemannianSGD on a product of unit spheres."""

from __future__ import annotations

import torch
from torch import Tensor

from .classic import adam, coupled, sgd
from .rows import REQUIRED, Hyper, Oracle, State, at_radius, inner, norm


def on_sphere(w: Tensor, h: Hyper) -> Tensor:
    return w / norm(w)


def tangent(a: Tensor, w: Tensor) -> Tensor:
    return a - inner(a, w) * w


def moved(w: Tensor, step: Tensor) -> Tensor:
    return at_radius(torch.ones_like(norm(w)), w - step, w)


def riemannian_adam(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    g = coupled(w, g, h)
    w = on_sphere(w, h)
    r = tangent(g, w)
    m = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * r
    s = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * inner(r, r)
    new = moved(w, h["lr"] * (m / bc1) / ((s / bc2).sqrt() + h["eps"]))
    return new, {"exp_avg": tangent(m, new), "exp_avg_sq": s}


def riemannian_sgd(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    first = g
    g = coupled(w, g, h)
    w = on_sphere(w, h)
    r = tangent(g, w)
    if h["momentum"] == 0:
        return moved(w, h["lr"] * r), {}
    b = h["momentum"] * state.get("momentum_buffer", first) + (1 - h["dampening"]) * r
    new = moved(w, h["lr"] * (r + h["momentum"] * b if h["nesterov"] else b))
    return new, {"momentum_buffer": tangent(b, new)}


ADAM: Hyper = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "channel_dims": (0,),
    "maximize": False,
}
SGD: Hyper = {
    "lr": REQUIRED,
    "momentum": 0.0,
    "dampening": 0.0,
    "weight_decay": 0.0,
    "nesterov": False,
    "channel_dims": (0,),
    "maximize": False,
}
ORACLES = {
    "RiemannianAdam": Oracle(ADAM, riemannian_adam, adam, construct=on_sphere),
    "RiemannianSGD": Oracle(SGD, riemannian_sgd, sgd, construct=on_sphere),
}
