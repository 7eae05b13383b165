"""LAMB and LARS: a step in proportion to the norm of the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .classic import direction, momentum
from .rows import Hyper, Oracle, Rows, State, norm


def adapts(h: Hyper) -> bool:
    return h["weight_decay"] != 0 or h["always_adapt"]


def lamb(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = direction(g, state, t, h)
    u = u + h["weight_decay"] * w
    if adapts(h):
        ratio = norm(w) / norm(u)
        u = torch.where((norm(w) > 0) & (norm(u) > 0), ratio, torch.ones_like(ratio)) * u
    return w - h["lr"] * u, state


def lars(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    if adapts(h):
        decay, length = h["weight_decay"], norm(g)
        ratio = h["trust_coefficient"] * norm(w) / (length + decay * norm(w) + h["eps"])
        ratio = torch.where((norm(w) > 0) & (length > 0), ratio, torch.ones_like(ratio))
        g = (g + decay * w) * ratio
    u, state = momentum(g, state, h)
    return w - h["lr"] * u, state


def never(shape: Sequence[int], rows: Rows, h: Hyper) -> bool:
    return False


LAMB: Hyper = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-6,
    "weight_decay": 0.01,
    "always_adapt": False,
    "maximize": False,
}
LARS: Hyper = {
    "lr": 1.0,
    "momentum": 0.0,
    "dampening": 0.0,
    "weight_decay": 0.0,
    "nesterov": False,
    "trust_coefficient": 1e-3,
    "eps": 1e-8,
    "always_adapt": False,
    "maximize": False,
}
ORACLES = {
    "LAMB": Oracle(LAMB, lamb, lamb, never, channel_dims=()),
    "LARS": Oracle(LARS, lars, lars, never, channel_dims=()),
}
