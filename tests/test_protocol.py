"""What torch.optim promises of every optimizer: groups, closures, gradients that come and go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, counts_steps, known, least, typical
from oracles import DEFAULTS
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import (
    assert_unchanged,
    make,
    random,
    random_grads,
    run,
    snapshot,
    take_steps,
)
from torch import Tensor

import sphere_fused

pytestmark = pytest.mark.parametrize("name", REPRESENTATIVES)
SHAPES = [(6, 5), (4, 3, 3, 3), (7,)]


def setting(steps: int) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Weights, and per step a gradient for each."""
    grads = [random_grads(shape, steps, seed=100 * i) for i, shape in enumerate(SHAPES)]
    weights = [random(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    return weights, [list(of_step) for of_step in zip(*grads, strict=True)]


def clones(tensors: list[Tensor]) -> list[Tensor]:
    return [t.clone() for t in tensors]


def assert_oracle(
    name: str,
    optimizer: torch.optim.Optimizer,
    w0: Tensor,
    grads: list[Tensor | None],
    p: Tensor,
    **hyper: Any,
) -> None:
    assert_close_to_oracle(name, w0, grads, p, optimizer.state[p], **hyper)


def test_is_a_torch_optimizer(name: str, backend: str) -> None:
    optimizer = make(name, [random(3, 4, seed=1)], backend, **least(name))
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert type(optimizer) is getattr(sphere_fused, name)
    assert name in repr(optimizer)


def test_a_model_trains(name: str, backend: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 32, bias=False),
        torch.nn.BatchNorm1d(32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
    )
    x = random(64, 8, seed=2)
    y = x[:, :1] * x[:, 1:2]
    optimizer = make(name, model.parameters(), backend, **{**typical(name), "lr": 0.02})
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_closure(name: str, backend: str) -> None:
    p = random(5, 4, seed=3).requires_grad_()
    optimizer = make(name, [p], backend, **typical(name))
    target = random(5, 4, seed=4)
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p - target).square().sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    losses = [optimizer.step(closure).item() for _ in range(8)]
    assert calls == [True] * 8
    assert losses == sorted(losses, reverse=True)
    assert not torch.equal(p, before)
    assert optimizer.step() is None


def test_groups_have_their_own_hyperparameters(name: str, backend: str) -> None:
    weights, grads = setting(4)
    params = clones(weights)
    whole = known(name, channel_dims=(), maximize=True)
    own = [{"lr": 0.02}, {"lr": 0.05, "weight_decay": 0.1}, whole]
    groups = [{"params": [p], **h} for p, h in zip(params, own, strict=True)]
    optimizer = make(name, groups, backend, **typical(name))
    take_steps(optimizer, params, grads)
    for i, p in enumerate(params):
        hyper = {**typical(name), **own[i]}
        assert_oracle(name, optimizer, weights[i], [g[i] for g in grads], p, **hyper)


def test_positional_arguments_as_in_torch(name: str, backend: str) -> None:
    weights, grads = setting(2)
    by_name, by_place = clones(weights), clones(weights)
    if "betas" not in DEFAULTS[name]:
        values: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "dampening": 0.1}
    else:
        values = {"lr": 0.05, "betas": (0.8, 0.9), **known(name, eps=1e-6)}
    first = make(name, by_name, backend, **values, weight_decay=0.01)
    second = getattr(sphere_fused, name)(
        by_place, *values.values(), weight_decay=0.01, backend=backend
    )
    take_steps(first, by_name, grads)
    take_steps(second, by_place, grads)
    for a, b in zip(by_name, by_place, strict=True):
        assert_same(a, b)


def test_named_parameters(name: str, backend: str) -> None:
    weights, grads = setting(2)
    params, named = clones(weights), clones(weights)
    take_steps(make(name, params, backend, **typical(name)), params, grads)
    pairs = [(f"layer{i}.weight", p) for i, p in enumerate(named)]
    take_steps(make(name, pairs, backend, **typical(name)), named, grads)
    for a, b in zip(params, named, strict=True):
        assert_same(a, b)


def test_a_missing_gradient_skips_the_tensor(name: str, backend: str) -> None:
    weights, grads = setting(6)
    params = clones(weights)
    optimizer = make(name, params, backend, **typical(name))
    with_gaps: list[list[Tensor | None]] = [list(g) for g in grads]
    with_gaps[0][1] = None  # appears later
    with_gaps[1][1] = None
    with_gaps[3][0] = None  # goes away for a step
    with_gaps[4] = [None, None, None]
    take_steps(optimizer, params, with_gaps)
    for i, p in enumerate(params):
        present = [g[i] for g in with_gaps]
        assert_oracle(name, optimizer, weights[i], present, p, **typical(name))
        if counts_steps(name):
            taken = sum(g is not None for g in present)
            assert float(optimizer.state[p]["step"]) == taken


def test_a_tensor_that_never_has_a_gradient_has_no_state(name: str, backend: str) -> None:
    weights, grads = setting(2)
    params = clones(weights)
    optimizer = make(name, params, backend, **typical(name))
    kept = params[2].clone()
    take_steps(optimizer, params, [[g[0], g[1], None] for g in grads])
    assert not optimizer.state.get(params[2])
    assert_same(params[2], kept)


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad(name: str, to_none: bool, backend: str) -> None:
    weights, grads = setting(3)
    params = clones(weights)
    optimizer = make(name, params, backend, **typical(name))
    for of_step in grads:
        for p, g in zip(params, of_step, strict=True):
            if p.grad is None:
                p.grad = g.clone()
            else:
                p.grad += g
        optimizer.step()
        optimizer.zero_grad(set_to_none=to_none)
        assert all((p.grad is None) == to_none for p in params)
    for i, p in enumerate(params):
        assert_oracle(name, optimizer, weights[i], [g[i] for g in grads], p, **typical(name))


def test_zero_gradients_are_not_missing_ones(name: str, backend: str) -> None:
    """The moments decay and the step counts."""
    w0, grads = random(5, 4, seed=5), [*random_grads((5, 4), 2), torch.zeros(5, 4)]
    p, state = run(name, w0, grads, backend, **typical(name))
    assert_close_to_oracle(name, w0, grads, p, state, **typical(name))
    if counts_steps(name):
        assert float(state["step"]) == 3


def test_gradients_are_never_modified(name: str, backend: str) -> None:
    weights, grads = setting(2)
    params = clones(weights)
    hyper = {**typical(name), "weight_decay": 0.1, "maximize": True}
    optimizer = make(name, params, backend, **hyper)
    given = [clones(g) for g in grads]
    take_steps(optimizer, params, given)
    for of_step, kept in zip(given, grads, strict=True):
        for g, expected in zip(of_step, kept, strict=True):
            assert_same(g, expected)
    for p, g in zip(params, given[-1], strict=True):
        assert p.grad is g


def test_add_param_group_in_mid_training(name: str, backend: str) -> None:
    weights, grads = setting(5)
    params = clones(weights)
    optimizer = make(name, params[:2], backend, **typical(name))
    take_steps(optimizer, params[:2], [g[:2] for g in grads[:2]])
    optimizer.add_param_group({"params": [params[2]], "lr": 0.07})
    take_steps(optimizer, params, grads[2:])
    for i, p in enumerate(params):
        hyper = typical(name) if i < 2 else {**typical(name), "lr": 0.07}
        of_param = [g[i] for g in (grads if i < 2 else grads[2:])]
        assert_oracle(name, optimizer, weights[i], of_param, p, **hyper)


def test_a_refused_group_changes_nothing(name: str, backend: str) -> None:
    weights, grads = setting(3)
    params = clones(weights)
    optimizer = make(name, params[:2], backend, **typical(name))
    take_steps(optimizer, params[:2], [grads[0][:2]])
    before = snapshot(optimizer)
    kept = params[2].clone()
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group({"params": [params[2]], "lr": -1.0})
    assert len(optimizer.param_groups) == 1
    assert_unchanged(optimizer, before)
    assert_same(params[2], kept)
    take_steps(optimizer, params[:2], [g[:2] for g in grads[1:]])
    for i, p in enumerate(params[:2]):
        assert_oracle(name, optimizer, weights[i], [g[i] for g in grads], p, **typical(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lr_as_a_tensor(name: str, dtype: torch.dtype, backend: str) -> None:
    weights, grads = setting(4)
    params, expected = clones(weights), clones(weights)
    lr = torch.tensor(0.03125, dtype=dtype)
    optimizer = make(name, params, backend, **{**typical(name), "lr": lr})
    plain = make(name, expected, backend, **{**typical(name), "lr": 0.03125})
    take_steps(optimizer, params, grads[:2])
    take_steps(plain, expected, grads[:2])
    lr.fill_(0.0625)
    plain.param_groups[0]["lr"] = 0.0625
    take_steps(optimizer, params, grads[2:])
    take_steps(plain, expected, grads[2:])
    for a, b in zip(params, expected, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize(
    "option", [{"foreach": True}, {"foreach": False}, {"capturable": True}], ids=str
)
def test_options_of_torch_that_change_nothing_here(
    name: str, option: dict[str, bool], backend: str
) -> None:
    weights, grads = setting(3)
    params, expected = clones(weights), clones(weights)
    take_steps(make(name, params, backend, **typical(name), **option), params, grads)
    take_steps(make(name, expected, backend, **typical(name)), expected, grads)
    for a, b in zip(params, expected, strict=True):
        assert_same(a, b)
