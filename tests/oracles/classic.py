"""Adam, AdamW, SGD and Lion: what most optimizers are where a segment is one element."""

from __future__ import annotations

import math

from torch import Tensor

from .rows import Hyper, State


def coupled(w: Tensor, g: Tensor, h: Hyper) -> Tensor:
    """The gradient with that of the L2 penalty."""
    return g + h["weight_decay"] * w if h["weight_decay"] != 0 else g


def decayed(w: Tensor, h: Hyper) -> Tensor:
    return (1 - h["lr"] * h["weight_decay"]) * w


def direction(g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    """Adam's u, and the moments."""
    beta1, beta2 = h["betas"]
    bc1, bc2 = 1 - beta1**t, 1 - beta2**t
    m = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
    v = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * g * g
    u = (m / bc1) / (v.sqrt() / math.sqrt(bc2) + h["eps"])
    return u, {"exp_avg": m, "exp_avg_sq": v}


def adam_without_decay(
    w: Tensor, g: Tensor, state: State, t: int, h: Hyper
) -> tuple[Tensor, State]:
    u, state = direction(g, state, t, h)
    return w - h["lr"] * u, state


def adam(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    return adam_without_decay(w, coupled(w, g, h), state, t, h)


def adamw(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    return adam_without_decay(decayed(w, h), g, state, t, h)


def momentum(g: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
    """torch.optim.SGD's direction and its buffer, which is g after the first step."""
    if h["momentum"] == 0:
        return g, {}
    b = g
    if "momentum_buffer" in state:
        b = h["momentum"] * state["momentum_buffer"] + (1 - h.get("dampening", 0.0)) * g
    return (g + h["momentum"] * b if h["nesterov"] else b), {"momentum_buffer": b}


def sgd(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = momentum(coupled(w, g, h), state, h)
    return w - h["lr"] * u, state


def sign(g: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
    """Lion's u, and its moment."""
    beta1, beta2 = h["betas"]
    m = state.get("exp_avg", 0.0)
    u = (beta1 * m + (1 - beta1) * g).sign()
    return u, {"exp_avg": beta2 * m + (1 - beta2) * g}


def lion(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    u, state = sign(g, state, h)
    return decayed(w, h) - h["lr"] * u, state
