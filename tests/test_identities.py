"""The wider family where it is something simpler, and what must hold wherever a step goes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from cases import CASES, typical
from oracles.tolerance import (
    EXACT,
    IDENTITY,
    KEPT_RADIUS,
    ON_SPHERE,
    ORTHOGONAL,
    assert_close_to_oracle,
    assert_same,
    error,
)
from stepping import make, random, random_grads, run, take_steps
from torch import Tensor

F32, F64 = torch.float32, torch.float64
FILTERS = (6, 5, 3, 3)
ADAM = {"lr": 3e-2, "betas": (0.9, 0.99), "eps": 1e-6}
NESTEROV = {"lr": 3e-2, "momentum": 0.9, "nesterov": True}
DAMPED = {"lr": 3e-2, "momentum": 0.9, "dampening": 0.3}
DECAY = {"weight_decay": 0.3}
# Ours, the shape, what we are given besides; torch's, what it is given besides.
SIMPLER: list[tuple[str, tuple[int, ...], dict[str, Any], str, dict[str, Any]]] = [
    # Nothing is below a delta of 0.
    ("AdamP", FILTERS, {**ADAM, **DECAY, "delta": 0.0}, "AdamW", {**ADAM, **DECAY}),
    (
        "AdamP",
        FILTERS,
        {**ADAM, **DECAY, "delta": 0.0, "decision": "filter"},
        "AdamW",
        {**ADAM, **DECAY},
    ),
    ("AdamP", (33,), {**ADAM, **DECAY}, "AdamW", {**ADAM, **DECAY}),
    ("SGDP", FILTERS, {**NESTEROV, "delta": 0.0}, "SGD", NESTEROV),
    ("SGDP", (33,), NESTEROV, "SGD", NESTEROV),
    # Without a weight decay, that of RotationalAdamW being 0.01, there is nothing to balance.
    ("RotationalAdamW", FILTERS, {**ADAM, "weight_decay": 0.0}, "Adam", ADAM),
    ("RotationalAdamW", (33,), {**ADAM, **DECAY}, "AdamW", {**ADAM, **DECAY}),
    ("RotationalSGDM", FILTERS, {**NESTEROV, "weight_decay": 0.0}, "SGD", NESTEROV),
    ("RotationalSGDM", (33,), {**NESTEROV, **DECAY}, "SGD", {**NESTEROV, **DECAY}),
    # A ratio of 1.
    ("LAMB", FILTERS, {**ADAM, "weight_decay": 0.0}, "Adam", ADAM),
    ("LARS", FILTERS, NESTEROV, "SGD", NESTEROV),
    ("LARS", FILTERS, DAMPED, "SGD", DAMPED),
    # Segments of one element.
    ("AdamH", (33,), ADAM, "Adam", ADAM),
    ("NormAdamW", (33,), {**ADAM, **DECAY}, "AdamW", {**ADAM, **DECAY}),
    (
        "NormAdamW",
        FILTERS,
        {**ADAM, **DECAY, "radius": 1.0, "channel_dims": None},
        "AdamW",
        {**ADAM, **DECAY},
    ),
    ("RiemannianAdam", (33,), {**ADAM, **DECAY}, "Adam", {**ADAM, **DECAY}),
    ("RiemannianSGD", (33,), {**NESTEROV, **DECAY}, "SGD", {**NESTEROV, **DECAY}),
    ("RiemannianSGD", FILTERS, {**DAMPED, "channel_dims": None}, "SGD", DAMPED),
]


@pytest.mark.parametrize(
    ("name", "shape", "hyper", "simpler", "its"),
    SIMPLER,
    ids=[f"{row[0]}-{'x'.join(map(str, row[1]))}-{i}" for i, row in enumerate(SIMPLER)],
)
def test_the_simpler_optimizer(
    name: str,
    shape: tuple[int, ...],
    hyper: dict[str, Any],
    simpler: str,
    its: dict[str, Any],
    backend: str,
) -> None:
    w0 = random(*shape, seed=1, dtype=F64)
    grads = random_grads(shape, 30, F64)
    theirs = w0.clone()
    optimizer = getattr(torch.optim, simpler)([theirs], **its)
    take_steps(optimizer, [theirs], [[g] for g in grads])
    p, state = run(name, w0, grads, backend, **hyper)
    assert error(p, theirs) <= EXACT
    expected = {k: t for k, t in optimizer.state[theirs].items() if k != "step"}
    assert set(state) - {"step"} == set(expected)
    for key, t in expected.items():
        assert error(state[key], t) <= EXACT, key


@pytest.mark.parametrize("name", ["RotationalAdamW", "RotationalSGDM", "RotationalLion"])
def test_without_decay_the_rotational_leave_the_mean_alone(name: str, backend: str) -> None:
    p = random(*FILTERS, seed=2)
    before = p.clone()
    make(name, [p], backend, **{**typical(name), "weight_decay": 0.0})
    assert_same(p, before)


def norms(w: Tensor) -> Tensor:
    return w.double().flatten(1).norm(dim=1)


def test_adamh_keeps_its_radius_for_ten_thousand_steps(backend: str) -> None:
    p = random(8, 19, seed=3)
    radius = float(p.double().norm())
    optimizer = make("AdamH", [p], backend, lr=1e-2)
    grads = [[g] for g in random_grads((8, 19), 100)]
    for _ in range(100):
        take_steps(optimizer, [p], grads)
        assert abs(float(p.double().norm()) / radius - 1) <= KEPT_RADIUS


@pytest.mark.parametrize(
    "name", ["AdamH", "NormAdamW", "RotationalAdamW", "RotationalSGDM", "RotationalLion"]
)
def test_the_radius_is_that_of_the_first_step(name: str, backend: str) -> None:
    """Whatever somebody makes of the weight later."""
    p = random(8, 19, seed=15)
    optimizer = make(name, [p], backend, **{**typical(name), "channel_dims": (0,)})
    p *= 3.0
    n = norms(p)
    for g in random_grads((8, 19), 3):
        take_steps(optimizer, [p], [[g]])
        assert float((norms(p) / n - 1).abs().max()) <= ON_SPHERE[F32]
        p *= 1.5


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("case", CASES["NormAdamW"])
def test_rows_of_normadamw_stay_at_their_radius(
    case: str, dtype: torch.dtype, backend: str
) -> None:
    hyper = CASES["NormAdamW"][case]
    whole = hyper.get("channel_dims") == ()
    w0 = random(8, 19, seed=4, dtype=dtype, scale=7.0)
    size = norms(w0[None] if whole else w0)
    radius = {"init": size, "sqrt_dim": math.sqrt(19)}.get(hyper.get("radius", "init"))
    radius = hyper["radius"] if radius is None else radius

    def off_radius() -> float:
        return float((norms(p[None] if whole else p) / radius - 1).abs().max())

    p = w0.clone()
    optimizer = make("NormAdamW", [p], backend, **hyper)
    assert off_radius() <= ON_SPHERE[dtype]
    grads = [[g] for g in random_grads((8, 19), 50, dtype)]
    for _ in range(10):
        take_steps(optimizer, [p], grads)
        assert off_radius() <= ON_SPHERE[dtype]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["RotationalAdamW", "RotationalSGDM", "RotationalLion"])
def test_rotational_segments_keep_their_norm_and_a_mean_of_0(
    name: str, dtype: torch.dtype, backend: str
) -> None:
    p = random(8, 19, seed=5, dtype=dtype) + 0.5
    n = norms(p)
    optimizer = make(name, [p], backend, **typical(name))
    grads = [[g] for g in random_grads((8, 19), 50, dtype)]
    for _ in range(20):
        assert float((norms(p) / n - 1).abs().max()) <= ON_SPHERE[dtype]
        share_of_mean = p.double().sum(1).abs() / math.sqrt(19) / n
        assert float(share_of_mean.max()) <= IDENTITY[dtype]
        take_steps(optimizer, [p], grads)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["RiemannianAdam", "RiemannianSGD"])
def test_transported_moment_is_tangent(name: str, dtype: torch.dtype, backend: str) -> None:
    hyper = typical(name)
    p = random(20, 28, seed=6, dtype=dtype)
    optimizer = make(name, [p], backend, **hyper)
    for t in range(8):
        # Mostly radial, so that the projection has much to remove.
        p.grad = 3 * p.detach() + random(20, 28, seed=10 + t, dtype=dtype)
        optimizer.step()
        assert float((norms(p) - 1).abs().max()) <= ON_SPHERE[dtype]
        m = optimizer.state[p]["exp_avg" if name == "RiemannianAdam" else "momentum_buffer"]
        cosine = (m.double() * p.double()).sum(1) / norms(p.grad)
        assert float(cosine.abs().max()) <= ORTHOGONAL[dtype], t


# With so large an eps the direction of Adam is the gradient, over eps, and not its signs.
AS_SGD: dict[str, Any] = {"betas": (0.9, 0.99), "eps": 1e3}


def along_the_weight(shape: tuple[int, int], left: float, dtype: torch.dtype) -> list[Tensor]:
    """Rows of norm 1, and gradients that leave `left` of them."""
    w0 = random(*shape, seed=7, dtype=F64)
    w0 = (w0 / w0.norm(dim=1, keepdim=True)).to(dtype)
    aside = random(*shape, seed=8, dtype=F64, scale=left / math.sqrt(shape[1]))
    return [w0, (w0.double() + aside).to(dtype), *random_grads(shape, 1, dtype)]


# A step as long as the weight and against it.
CANCELLING = {
    "AdamH": {**AS_SGD, "lr": 1.0},
    "AdamH-filters": {**AS_SGD, "lr": 1.0, "channel_dims": (0,)},
    "NormAdamW": {**AS_SGD, "lr": 1e3},
    "NormAdamW-whole": {**AS_SGD, "lr": 1e3, "channel_dims": ()},
    "LAMB": {**AS_SGD, "lr": 1.0},
    # Its buffer begins as the gradient, radial part and all.
    "RiemannianSGD": {"lr": 2.0, "momentum": 0.5},
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("left", [0.5, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("case", CANCELLING)
def test_a_step_that_nearly_cancels_the_weight(
    case: str, left: float, dtype: torch.dtype, backend: str
) -> None:
    name, hyper = case.split("-")[0], CANCELLING[case]
    hyper = {**hyper, "lr": hyper["lr"] * (1 - left)}
    w0, *grads = along_the_weight((64, 147), left, dtype)
    # After one step too, because a second one forgets what the state lost.
    for steps in (1, 2):
        p, state = run(name, w0, grads[:steps], backend, **hyper)
        assert_close_to_oracle(name, w0, grads[:steps], p, state, **hyper)


SIDEWAYS = {
    "RotationalAdamW": {**AS_SGD, "lr": 0.1, "weight_decay": 0.1},
    "RotationalSGDM": {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9},
    "NormAdamW": {**AS_SGD, "lr": 1e3, "tangent": True},
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("left", [0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("name", SIDEWAYS)
def test_a_direction_of_which_little_is_left_after_projection(
    name: str, left: float, dtype: torch.dtype, backend: str
) -> None:
    hyper = SIDEWAYS[name]
    w0, *grads = along_the_weight((64, 147), left, dtype)
    w0 = w0 - w0.mean(dim=1, keepdim=True)
    for steps in (1, 2):
        p, state = run(name, w0, grads[:steps], backend, **hyper)
        assert_close_to_oracle(name, w0, grads[:steps], p, state, **hyper)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("left", [0.1, 1e-2, 1e-3])
def test_signs_of_which_little_is_left_after_projection(
    left: float, dtype: torch.dtype, backend: str
) -> None:
    """Weights that nearly are along the signs of the gradient, as many of each."""
    signs = torch.tensor([1.0, -1.0], dtype=F64).repeat(64, 74)
    # Not of length 1: by a factor that nearly is 1, roundings would not look random.
    w0 = (0.7 * signs + left * random(64, 148, seed=9, dtype=F64)).to(dtype)
    grads = [signs.to(dtype), *random_grads((64, 148), 1, dtype)]
    hyper: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1}
    for steps in (1, 2):
        p, state = run("RotationalLion", w0, grads[:steps], backend, **hyper)
        assert_close_to_oracle("RotationalLion", w0, grads[:steps], p, state, **hyper)


TINY = {
    "AdamH": {"lr": 0.1},
    "AdamH-filters": {"lr": 0.1, "channel_dims": (0,)},
    "RotationalAdamW": {"lr": 0.1, "weight_decay": 0.1},
    "RotationalAdamW-no-eps": {"lr": 0.1, "weight_decay": 0.1, "rotational_eps": 0.0},
    "RotationalSGDM": {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9},
    "LAMB": {"lr": 0.1, "weight_decay": 0.0, "always_adapt": True},
    "LARS": {"momentum": 0.9, "always_adapt": True, "eps": 0.0},
    "AdamP": {"lr": 0.1, "delta": 1.5},
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("scale", [1e-10, 1e-17])
@pytest.mark.parametrize("case", TINY)
def test_tiny_directions(case: str, scale: float, dtype: torch.dtype, backend: str) -> None:
    """The step of most of these is as long as ever, whatever the length of the direction."""
    name, hyper = case.split("-")[0], TINY[case]
    w0 = random(8, 30, seed=10, dtype=dtype)
    grads = [scale * g for g in random_grads((8, 30), 3, dtype)]
    p, state = run(name, w0, grads, backend, **hyper)
    assert_close_to_oracle(name, w0, grads, p, state, **hyper)


def test_adamh_without_a_direction_stays(backend: str) -> None:
    w0 = random(8, 30, seed=11)
    p, _ = run("AdamH", w0, [torch.zeros_like(w0)] * 2, backend, lr=0.1)
    assert_same(p, w0)


@pytest.mark.parametrize("name", ["LAMB", "LARS"])
@pytest.mark.parametrize("zero", ["weights", "gradients", "both"])
def test_norms_of_0_give_a_ratio_of_1(name: str, zero: str, backend: str) -> None:
    w0, grads = random(8, 30, seed=11), random_grads((8, 30), 2)
    w0 = torch.zeros_like(w0) if zero != "gradients" else w0
    grads = [torch.zeros_like(g) if zero != "weights" else g for g in grads]
    for decay in (0.0, 0.3):
        hyper = {"lr": 0.1, "weight_decay": decay, "always_adapt": True}
        p, state = run(name, w0, grads, backend, **hyper)
        assert_close_to_oracle(name, w0, grads, p, state, **hyper)
        assert torch.equal(p, w0) == (zero == "both" or (zero == "gradients" and decay == 0))


LANDING = {
    "AdamH": ({"lr": 1.0, "betas": (0.0, 0.0), "eps": 0.0, "channel_dims": (0,)}, 1.0),
    "NormAdamW": ({"lr": 0.5, "betas": (0.0, 0.0), "eps": 0.0}, 1.0),
    "RiemannianSGD": ({"lr": 1.0, "momentum": 0.5}, 2.0),
}


@pytest.mark.parametrize("name", LANDING)
def test_a_step_that_would_land_on_zero_leaves_the_weight(name: str, backend: str) -> None:
    """The numbers are chosen so that the step from the first row is exactly minus that row."""
    hyper, scale = LANDING[name]
    w0 = torch.tensor([[0.5, -0.5, 0.5, 0.5], [1.0, 2.0, 3.0, 4.0]])
    g = torch.tensor([[0.5, -0.5, 0.5, 0.5], [0.1, 0.2, 0.3, -0.4]])
    g[0] *= scale
    p, state = run(name, w0, [g], backend, **hyper)
    assert_same(p[0], w0[0])
    assert_close_to_oracle(name, w0, [g], p, state, **hyper)
