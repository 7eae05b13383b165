"""SGD with L2 on a scale-invariant loss is, to second order, AdamG*: a normalized step on the
sphere whose second moment sums squared gradient norms (arXiv 2006.13382)."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.tolerance import HALVED_AT_FIXED_TIME, HALVED_TWO_STEPS, IDENTITY
from stepping import make, random
from torch import Tensor

DIM = 10
MATRIX = random(DIM, DIM, seed=1, dtype=torch.float64)
VECTOR = random(DIM, seed=2, dtype=torch.float64)
START = random(1, DIM, seed=3, dtype=torch.float64) * 0.5


def loss(w: Tensor) -> Tensor:
    u = w / w.norm()
    return (u @ MATRIX * u).sum() + (u @ VECTOR).sum() + (u**3).sum()


def gradient(w: Tensor) -> Tensor:
    w = w.detach().clone().requires_grad_()
    loss(w).backward()
    return w.grad


def sgd(lr: float, decay: float, steps: int, backend: str) -> Tensor:
    """The direction SGD ends at."""
    p = START.clone().requires_grad_()
    optimizer = make("SGDMRT", [p], backend, lr=lr, momentum=0.0, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(p).backward()
        optimizer.step()
    return (p / p.norm()).detach()


def adamg_star(lr: float, decay: float, steps: int) -> Tensor:
    beta = (1 - lr * decay) ** 4
    e = (2 * beta) ** -0.5
    v = float(START.norm()) ** 4 / (2 * lr**2 * beta**0.5)
    u = START / START.norm()
    for _ in range(steps):
        g = gradient(u)
        y = u - e * g / math.sqrt(v)
        v = beta * v + float((g * g).sum())
        u = y / y.norm()
    return u


def gap(lr: float, decay: float, steps: int, backend: str) -> float:
    return float((sgd(lr, decay, steps, backend) - adamg_star(lr, decay, steps)).norm())


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_first_step_agrees_to_rounding(decay: float, backend: str) -> None:
    moved = float((sgd(0.02, decay, 1, backend) - START / START.norm()).norm())
    assert moved > 1e-3
    assert gap(0.02, decay, 1, backend) <= IDENTITY[torch.float64]


@pytest.mark.parametrize("decay", [0.0, 0.5, 2.0])
def test_the_gap_after_two_steps_is_of_fifth_order(decay: float, backend: str) -> None:
    for lr in (0.01, 0.005):
        ratio = gap(lr, decay, 2, backend) / gap(lr / 2, decay, 2, backend)
        assert HALVED_TWO_STEPS[0] <= ratio <= HALVED_TWO_STEPS[1]


def test_the_gap_at_a_fixed_time_is_of_third_order(backend: str) -> None:
    for lr, steps in ((0.01, 8), (0.005, 16)):
        ratio = gap(lr, 0.0, steps, backend) / gap(lr / 2, 0.0, 2 * steps, backend)
        assert HALVED_AT_FIXED_TIME[0] <= ratio <= HALVED_AT_FIXED_TIME[1]
