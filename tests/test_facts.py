"""What is true of the core optimizers beyond following their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import typical
from layouts import contiguous, permuted
from oracles.tolerance import (
    IDENTITY,
    ORTHOGONAL,
    assert_close_to_oracle,
    assert_same,
    error,
)
from stepping import make, random, random_grads, run
from torch import Tensor

MOMENT = {
    "AdamST": "exp_avg",
    "AdamSRT": "exp_avg",
    "AdamG": "exp_avg",
    "SGDMRT": "momentum_buffer",
}


def norms(w: Tensor) -> Tensor:
    return w.double().flatten(1).norm(dim=1)


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", MOMENT)
def test_transported_moment_is_tangent(name: str, dtype: torch.dtype, backend: str) -> None:
    hyper = {**typical(name), "weight_decay": 0.0}
    p = random(20, 28, seed=1, dtype=dtype)
    optimizer = make(name, [p], backend, **hyper)
    beta = hyper["momentum"] if name == "SGDMRT" else hyper["betas"][0]
    gain = 1.0 if name == "SGDMRT" else 1.0 - beta
    m = torch.zeros(20, 28, dtype=torch.float64)
    for t in range(8):
        # Mostly radial, so that only transport can make the moment tangent.
        p.grad = 3 * p.detach() + random(20, 28, seed=10 + t, dtype=dtype)
        w, before = p.double(), beta * m + gain * p.grad.double()
        optimizer.step()
        m = optimizer.state[p][MOMENT[name]].double()
        cosine = (m * p.double()).sum(1) / (norms(before) * norms(w))
        assert float(cosine.abs().max()) <= ORTHOGONAL[dtype], t


def on_sphere_gradient(w: Tensor, t: int) -> Tensor:
    """Row by row, the gradient of a scale-invariant loss that changes from step to step."""
    dim = w.shape[1]
    matrix, vector = (
        random(dim, dim, seed=2 * t, dtype=torch.float64),
        random(dim, seed=2 * t + 1, dtype=torch.float64),
    )
    w = w.detach().clone().requires_grad_()
    u = w / w.norm(dim=1, keepdim=True)
    ((u @ matrix * u).sum() + (u @ vector).sum()).backward()
    return w.grad


def directions_apart(
    name: str, power: int, backend: str | None, hyper: dict[str, Any]
) -> tuple[float, Tensor, Tensor, dict[str, Tensor], list[dict[str, Tensor]]]:
    """Run A with decoupled decay and B without, the learning rate of B chosen per segment.

    Where the state moves with the sphere, lr_B = lr (|w_B|/|w_A|)^power / a_w makes every step of B
    turn as far as that of A. Returns the largest distance of their directions, and both ends.
    """
    lr, decay = hyper["lr"], 1.5
    a = random(3, 12, seed=3, dtype=torch.float64)
    b = [row.clone()[None] for row in a]
    opt_a = make(name, [a], backend, weight_decay=decay, decoupled_weight_decay=True, **hyper)
    opt_b = make(name, [{"params": [row]} for row in b], backend, **hyper)
    worst = 0.0
    for t in range(24):
        a.grad = on_sphere_gradient(a, t)
        for row, group, norm_a in zip(b, opt_b.param_groups, norms(a).tolist(), strict=True):
            row.grad = on_sphere_gradient(row, t)
            group["lr"] = lr * (float(row.norm()) / norm_a) ** power / (1 - lr * decay)
        opt_a.step()
        opt_b.step()
        ends = torch.cat(b)
        apart = a / a.norm(dim=1, keepdim=True) - ends / ends.norm(dim=1, keepdim=True)
        worst = max(worst, float(apart.norm(dim=1).max()))
    return worst, a, torch.cat(b), opt_a.state[a], [opt_b.state[row] for row in b]


ADAM_LIKE = {"lr": 0.05, "betas": (0.9, 0.99), "eps": 0.0}


@pytest.mark.interpreted
def test_state_and_path_depend_on_directions_only_under_rescale_and_transport(
    backend: str,
) -> None:
    apart, a, b, state_a, states_b = directions_apart("AdamSRT", 1, backend, ADAM_LIKE)
    assert float((norms(b) / norms(a)).min()) > 1.5, "the radii must differ, or nothing is tested"
    assert apart <= IDENTITY[torch.float64]
    m_a = state_a["exp_avg"] * norms(a)[:, None]
    m_b = torch.cat([s["exp_avg"] for s in states_b]) * norms(b)[:, None]
    s_a = state_a["exp_avg_sq"] * norms(a)[:, None] ** 2
    s_b = torch.cat([s["exp_avg_sq"] for s in states_b]) * norms(b)[:, None] ** 2
    assert error(m_b, m_a) <= IDENTITY[torch.float64]
    assert error(s_b, s_a) <= IDENTITY[torch.float64]


@pytest.mark.parametrize("name", ["AdamS", "AdamST"])
def test_less_than_rescale_and_transport_depends_on_radii(name: str, backend: str) -> None:
    apart, *_ = directions_apart(name, 1, backend, ADAM_LIKE)
    assert apart > 0.1


@pytest.mark.interpreted
def test_sgdmrt_depends_on_directions_only(backend: str) -> None:
    hyper = {"lr": 0.05, "momentum": 0.9}
    apart, a, b, state_a, states_b = directions_apart("SGDMRT", 2, backend, hyper)
    assert float((norms(b) / norms(a)).min()) > 1.5, "the radii must differ, or nothing is tested"
    assert apart <= IDENTITY[torch.float64]
    b_a = state_a["momentum_buffer"] * norms(a)[:, None]
    b_b = torch.cat([s["momentum_buffer"] for s in states_b]) * norms(b)[:, None]
    assert error(b_b, b_a) <= IDENTITY[torch.float64]


@pytest.mark.interpreted
def test_eps_is_absolute(backend: str) -> None:
    """At |w|^2 = eps the rescaling halves S, and the transport m, at every step."""
    p = random(6, 20, seed=4)
    p *= 1e-4 / p.norm(dim=1, keepdim=True)
    tangent = random(6, 20, seed=5)
    tangent -= (tangent * p).sum(1, keepdim=True) * p / (p * p).sum(1, keepdim=True)
    optimizer = make("AdamSRT", [p], backend, lr=0.0, betas=(0.0, 0.0), eps=1e-8)
    p.grad = tangent
    optimizer.step()
    state = optimizer.state[p]
    assert error(state["exp_avg"], tangent / 2) <= IDENTITY[torch.float32]
    halved = (tangent * tangent).sum(1, keepdim=True) / 2
    assert error(state["exp_avg_sq"], halved) <= IDENTITY[torch.float32]


@pytest.mark.interpreted
@pytest.mark.parametrize("name", ["AdamS", "AdamST", "AdamSRT", "SGDMRT"])
def test_a_segment_that_starts_at_zero(name: str, backend: str) -> None:
    w0 = random(4, 9, seed=6)
    w0[1] = 0.0
    grads = random_grads((4, 9), 3)
    hyper = typical(name)
    p, state = run(name, w0, grads, backend, **hyper)
    assert_close_to_oracle(name, w0, grads, p, state, **hyper)
    # The first step skips rescaling and transport: the moment is the plain running average.
    p, state = run(name, w0, grads[:1], backend, **hyper)
    gain = 1.0 if name == "SGDMRT" else 1.0 - hyper["betas"][0]
    m = state["momentum_buffer" if name == "SGDMRT" else "exp_avg"]
    assert error(m[1], gain * grads[0][1]) <= IDENTITY[torch.float32]
    assert float(p[1].norm()) > 0
    if name != "SGDMRT":
        s = (1 - hyper["betas"][1]) * grads[0][1].double().square().sum()
        assert error(state["exp_avg_sq"][1, 0], s) <= IDENTITY[torch.float32]


@pytest.mark.interpreted
@pytest.mark.parametrize("name", ["AdamST", "AdamSRT", "SGDMRT"])
def test_a_segment_that_lands_on_zero(name: str, backend: str) -> None:
    """The numbers are chosen so that the step from w along g = w or 2w is exactly -w."""
    p = torch.tensor([[1.0, -1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    g = torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.1, 0.2, 0.3, -0.4]])
    if name == "SGDMRT":
        hyper: dict[str, Any] = {"lr": 0.5, "momentum": 0.9}
        g[0] *= 2
    else:
        hyper = {"lr": 1.0, "betas": (0.0, 0.0), "eps": 0.0}
    optimizer = make(name, [p], backend, **hyper)
    p.grad = g
    optimizer.step()
    state = optimizer.state[p]
    assert_same(p[0], torch.zeros(4))
    assert_same(state["momentum_buffer" if name == "SGDMRT" else "exp_avg"][0], g[0])
    if name != "SGDMRT":
        assert float(state["exp_avg_sq"][0]) == 4.0
    for _ in range(3):
        optimizer.step()
        tensors = [p, *(t for t in optimizer.state[p].values())]
        assert all(bool(torch.isfinite(t).all()) for t in tensors)


# |w'|/|w|. At 0.2 the products of before the step have lost more digits than is allowed, and at
# 1e-3 all of them. Several rows, because the error of a single sum is a matter of luck.
LEFT = [0.5, 0.2, 0.1, 1e-2, 1e-3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("rows", "dim", "lay", "left"),
    [
        *(pytest.param(64, 147, contiguous, left, id=f"rows-{left}") for left in LEFT),
        *(pytest.param(64, 147, permuted(1, 0), left, id=f"columns-{left}") for left in LEFT),
        *(pytest.param(12, 70_001, contiguous, left, id=f"long-{left}") for left in (0.2, 1e-3)),
    ],
)
@pytest.mark.parametrize("name", ["AdamST", "AdamSRT", "SGDMRT"])
def test_a_step_that_nearly_cancels_the_weight(
    name: str,
    rows: int,
    dim: int,
    lay: Callable[[Tensor], Tensor],
    left: float,
    dtype: torch.dtype,
    backend: str,
) -> None:
    """|w'| is about `left` |w|: inner products composed from those before the step lose digits."""
    w0 = random(rows, dim, seed=7, dtype=torch.float64)
    w0 = lay((w0 / w0.norm(dim=1, keepdim=True)).to(dtype))
    aside = random(rows, dim, seed=8, dtype=torch.float64, scale=left / math.sqrt(dim))
    grads = [(w0.double() + aside).to(dtype), *random_grads((rows, dim), 1, dtype)]
    if name == "SGDMRT":
        hyper: dict[str, Any] = {"lr": 1.0 - left, "momentum": 0.9}
    else:
        hyper = {"lr": (1.0 - left) / math.sqrt(dim)}
    first, _ = run(name, w0, grads[:1], backend, **hyper)
    assert left / 3 < float((norms(first) / norms(w0)).median()) < 3 * left
    # After one step too, because a second one forgets what the state lost.
    for steps in (1, 2):
        p, state = run(name, w0, grads[:steps], backend, **hyper)
        assert_close_to_oracle(name, w0, grads[:steps], p, state, **hyper)


@pytest.mark.interpreted
@pytest.mark.parametrize("dampening", [0.0, 0.25])
def test_dampening_scales_the_first_gradient(dampening: float, backend: str) -> None:
    """Where torch.optim.SGD takes it whole; from the second step on they agree."""
    w0, grads = random(31, seed=9), random_grads((31,), 6)
    theirs = w0.clone()
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, dampening=dampening)
    for t, g in enumerate(grads):
        theirs.grad = (1 - dampening) * g if t == 0 else g
        sgd.step()
    ours, state = run("SGDMRT", w0, grads, backend, lr=0.1, momentum=0.9, dampening=dampening)
    assert error(ours, theirs) <= IDENTITY[torch.float32]
    expected = sgd.state[theirs]["momentum_buffer"]
    assert error(state["momentum_buffer"], expected) <= IDENTITY[torch.float32]


@pytest.mark.interpreted
def test_the_angle_of_a_step(backend: str) -> None:
    """tan(theta) = lr/(r nu) |c_perp| / (1 - lr <c,u>/(r nu)), exactly, for AdamS."""
    lr, beta1, beta2, eps = 0.05, 0.9, 0.99, 1e-3
    p = random(8, 18, seed=11, dtype=torch.float64)
    optimizer = make("AdamS", [p], backend, lr=lr, betas=(beta1, beta2), eps=eps)
    for t in range(1, 6):
        w, r = p.clone(), norms(p)[:, None]
        u = w / r
        p.grad = random(8, 18, seed=20 + t, dtype=torch.float64)
        optimizer.step()
        dw = p - w
        across = dw - (dw * u).sum(1, keepdim=True) * u
        angle = torch.atan2(norms(across), (p * u).sum(1))
        m, s = optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg_sq"]
        bc1, bc2 = 1 - beta1**t, 1 - beta2**t
        b = bc1 / (1 - beta1) * ((s / bc2).sqrt() + eps) / math.sqrt(18)
        nu = r * b
        c = r * m / (1 - beta1)
        along = (c * u).sum(1, keepdim=True)
        ratio = lr / (r * nu)
        tangent = ratio[:, 0] * norms(c - along * u) / (1 - ratio * along)[:, 0]
        assert error(angle.tan(), tangent) <= IDENTITY[torch.float64]
