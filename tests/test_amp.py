"""Scaled gradients: GradScaler's protocol, and hyperparameters that are tensors on a device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CASES, REPRESENTATIVES, known, typical
from oracles import DEFAULTS
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import (
    assert_unchanged,
    make,
    random,
    random_grads,
    run,
    set_grad,
    snapshot,
    take_steps,
)
from torch import Tensor
from torch.optim import Optimizer

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim import base

SHAPES = [(6, 5), (5, 147), (7,)]
SCALE = 2.0**16
each = pytest.mark.parametrize("name", REPRESENTATIVES)
SIGNS_AND_DECAYS = [
    (name, case)
    for name in REPRESENTATIVES
    for case in ("typical", "decoupled", "maximize", "maximize-decoupled")
    if "decoupled" not in case or "decoupled_weight_decay" in DEFAULTS[name]
]
each_case = pytest.mark.parametrize(("name", "case"), SIGNS_AND_DECAYS)


def hyper_of(name: str, case: str) -> dict[str, Any]:
    decoupled = known(name, decoupled_weight_decay="decoupled" in case)
    return CASES[name].get(case) or {
        **typical(name),
        "weight_decay": 0.1,
        "maximize": "maximize" in case,
        **decoupled,
    }


def assert_all_same(a: Optimizer, b: Optimizer) -> None:
    """Assert that parameters and state are the same, bit by bit."""
    for p, q in zip(a.param_groups[0]["params"], b.param_groups[0]["params"], strict=True):
        assert_same(p.detach(), q.detach())
        assert a.state[p].keys() == b.state[q].keys()
        for key, value in a.state[p].items():
            assert_same(value, b.state[q][key], key)


DTYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
]


@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda d: f"{d[0]}-{d[1]}".replace("torch.", ""))
@each_case
def test_a_power_of_two_is_as_if_gradients_had_never_been_scaled(
    name: str, case: str, dtypes: tuple[torch.dtype, torch.dtype], backend: str
) -> None:
    """To the bit, and with digits that float16 would lose after the division."""
    dtype, grad_dtype = dtypes
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    weights = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]
    optimizers = []
    for scale in (SCALE, None):
        params = [w.clone() for w in weights]
        optimizer = make(name, params, backend, **hyper_of(name, case))
        if scale is not None:
            optimizer.grad_scale = torch.tensor([scale])
        for t in range(3):
            for i, p in enumerate(params):
                g = random(*SHAPES[i], seed=10 * t + i, dtype=grad_dtype)
                set_grad(p, g if scale else g.to(wide) / SCALE)
            kept = [p.grad.clone() for p in params]
            optimizer.step()
            for p, g in zip(params, kept, strict=True):
                assert_same(p.grad, g)
        optimizers.append(optimizer)
    assert_all_same(*optimizers)


@pytest.mark.interpreted
@each_case
def test_other_scales(name: str, case: str, backend: str) -> None:
    scale, hyper = 3000.0, hyper_of(name, case)
    w0, grads = random(6, 45, seed=1), random_grads((6, 45), 5)
    p = w0.clone()
    optimizer = make(name, [p], backend, **hyper)
    optimizer.grad_scale = torch.tensor(scale)
    take_steps(optimizer, [p], [[g] for g in grads])
    unscaled = [g.double() / scale for g in grads]
    assert_close_to_oracle(name, w0, unscaled, p, optimizer.state[p], **hyper)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_nothing_can_be_divided_by_is_refused(scale: float, backend: str) -> None:
    p = random(4, 3, seed=1)
    p.grad = torch.ones_like(p)
    optimizer = make("AdamSRT", [p], backend)
    optimizer.grad_scale = torch.tensor(scale)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match="grad_scale must be above 0"):
        optimizer.step()
    assert_unchanged(optimizer, before)


@pytest.mark.interpreted
@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("found", [torch.tensor(1.0), torch.tensor([3.0]), 1], ids=repr)
@each
def test_found_inf_changes_nothing(
    name: str, found: Tensor | int, steps_before: int, backend: str
) -> None:
    p = random(5, 4, seed=1)
    optimizer = make(name, [p], backend, **typical(name))
    take_steps(optimizer, [p], [[g] for g in random_grads((5, 4), steps_before)])
    p.grad = torch.full_like(p, torch.inf)
    before = snapshot(optimizer)
    optimizer.found_inf = found
    assert optimizer.step(lambda: "the loss") == "the loss"
    assert_unchanged(optimizer, before)
    optimizer.found_inf = torch.zeros_like(torch.as_tensor(found))
    p.grad = random(5, 4, seed=2)
    optimizer.step()
    assert not torch.equal(p, before["params"][0])


# GradScaler.unscale_ takes no float16 gradients.
@pytest.mark.parametrize(
    ("dtype", "unscaled_before"),
    [(torch.float32, False), (torch.float32, True), (torch.float16, False)],
    ids=["float32", "float32-unscaled", "float16"],
)
@each
def test_grad_scaler(name: str, dtype: torch.dtype, unscaled_before: bool, backend: str) -> None:
    """A run with scales that grow and shrink, and a step with an infinity, which is skipped."""
    params = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]
    expected = [p.clone() for p in params]
    for p in params:
        p.requires_grad_()
    optimizer = make(name, params, backend, **typical(name))
    plain = make(name, expected, backend, **typical(name))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    scales = []
    for t in range(6):
        scales.append(scaler.get_scale())
        grads = [random(*s, seed=10 * t + i, dtype=dtype) for i, s in enumerate(SHAPES)]
        optimizer.zero_grad()
        scaler.scale(sum((p * g).sum() for p, g in zip(params, grads, strict=True))).backward()
        if t == 3:
            params[1].grad[2, 3] = torch.inf
        if unscaled_before:
            scaler.unscale_(optimizer)
        before = snapshot(optimizer)
        scaler.step(optimizer)
        for p, g in zip(params, before["grads"], strict=True):
            assert_same(p.grad, g, "a gradient was written")
        if t == 3:
            assert_unchanged(optimizer, before)
        else:
            take_steps(plain, expected, [grads])
        scaler.update()
    assert scales == [4.0, 4.0, 8.0, 8.0, 4.0, 4.0]
    assert_all_same(optimizer, plain)
    assert not hasattr(optimizer, "grad_scale")
    assert not hasattr(optimizer, "found_inf")


@pytest.mark.interpreted
@each
def test_every_group_is_unscaled(name: str, backend: str) -> None:
    w0, g = random(6, 5, seed=1), random(6, 5, seed=2)
    params = [w0.clone() for _ in range(2)]
    groups = [{"params": [p], "lr": 0.01 * (1 + i)} for i, p in enumerate(params)]
    optimizer = make(name, groups, backend, **typical(name))
    optimizer.grad_scale = torch.tensor(SCALE)
    take_steps(optimizer, params, [[g, g]])
    for i, p in enumerate(params):
        hyper = {**typical(name), "lr": 0.01 * (1 + i)}
        assert_same(p, run(name, w0, [g / SCALE], backend, **hyper)[0])


# The compiled backend is given addresses where the parameter is there: tests/test_on_gpu.py.
@pytest.mark.parametrize(
    ("backend", "parameter_is_there"),
    [("reference", False), ("reference", True), ("native", False), ("triton", False)],
    ids=["reference", "reference-there", "native", "triton"],
    indirect=["backend"],
)
@pytest.mark.parametrize(
    ("name", "case", "dtype"),
    [(*named, (torch.float32, torch.float64)[i % 2]) for i, named in enumerate(SIGNS_AND_DECAYS)],
)
def test_hyperparameters_on_a_device(
    name: str,
    case: str,
    dtype: torch.dtype,
    backend: str,
    parameter_is_there: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device that is played: what a step is given stays the tensor that it is."""
    hyper = {**hyper_of(name, case), "lr": 0.03125}
    start = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]
    grads = [random_grads(shape, 3, dtype, seed=10 * i) for i, shape in enumerate(SHAPES)]
    monkeypatch.setattr(base, "at_hand", lambda value: value)
    if parameter_is_there:
        monkeypatch.setattr(GroupHyper, "on", lambda self, _: self)
    params = [w.clone() for w in start]
    optimizer = make(name, params, backend, **{**hyper, "lr": torch.tensor([[hyper["lr"]]])})
    optimizer.grad_scale, optimizer.found_inf = torch.tensor([SCALE]), torch.zeros(1)
    take_steps(optimizer, params, list(zip(*grads, strict=True)))
    for w0, of_param, p in zip(start, grads, params, strict=True):
        unscaled = [g / SCALE for g in of_param]
        assert_close_to_oracle(name, w0, unscaled, p, optimizer.state[p], **hyper)
    before = snapshot(optimizer)
    optimizer.found_inf = torch.ones(1)
    optimizer.step()
    assert_unchanged(optimizer, before)
