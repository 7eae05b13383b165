"""Hyperparameters that differ between groups, and that schedulers change between steps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import OPTIMIZERS, least, moment_of, typical
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import make, random, random_grads, take_steps
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler, swa_utils

# With betas, with momentum, and betas of which both are the first moment's.
each = pytest.mark.parametrize("name", ["AdamSRT", "SGDP", "RotationalLion"])
SHAPES = [(6, 5), (4, 3, 3, 3)]
STEPS = 6


def weights() -> list[Tensor]:
    return [random(*shape, seed=i) for i, shape in enumerate(SHAPES)]


def gradients(steps: int = STEPS) -> list[list[Tensor]]:
    """Per step, one for each weight."""
    grads = [random_grads(shape, steps, seed=100 * i) for i, shape in enumerate(SHAPES)]
    return [list(of_step) for of_step in zip(*grads, strict=True)]


def sequence(o: Optimizer) -> Any:
    first = lr_scheduler.LinearLR(o, start_factor=0.2, total_iters=2)
    then = lr_scheduler.CosineAnnealingLR(o, T_max=4)
    return lr_scheduler.SequentialLR(o, [first, then], milestones=[2])


def chain(o: Optimizer) -> Any:
    parts = [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.8)]
    return lr_scheduler.ChainedScheduler(parts)


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.7),
    "StepLR": lambda o: lr_scheduler.StepLR(o, step_size=2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, milestones=[1, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, total_iters=3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "SequentialLR": sequence,
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=4, power=2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=4),
    "ChainedScheduler": chain,
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 0.05, step_size_up=2),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=STEPS + 1),
    "SWALR": lambda o: swa_utils.SWALR(o, swa_lr=1e-3, anneal_epochs=3),
}
CYCLES_MOMENTUM = ("CyclicLR", "OneCycleLR")


def test_no_scheduler_is_left_out() -> None:
    classes = [c for c in vars(lr_scheduler).values() if inspect.isclass(c)]
    found = {c.__name__ for c in classes if issubclass(c, lr_scheduler.LRScheduler)}
    assert found - {"LRScheduler", "_LRScheduler"} <= SCHEDULERS.keys()


def groups_of(params: list[Tensor], as_tensor: bool) -> list[dict[str, Any]]:
    """With learning rates of their own."""
    lrs = (0.03125, 0.0625)
    return [
        {"params": [p], "lr": torch.tensor(lr) if as_tensor else lr}
        for p, lr in zip(params, lrs, strict=True)
    ]


def values_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What a scheduler may change in each group, as numbers."""
    keys = ("lr", "momentum", "betas")
    return [
        {k: float(v) if k != "betas" else tuple(v) for k, v in group.items() if k in keys}
        for group in optimizer.param_groups
    ]


def values_of_torch(name: str, scheduler: str, as_tensor: bool) -> list[list[dict[str, Any]]]:
    """What `scheduler` makes of a torch.optim optimizer's groups, step by step."""
    hyper = {k: v for k, v in typical(name).items() if k in ("betas", "momentum")}
    kind = torch.optim.Adam if moment_of(name) == "exp_avg" else torch.optim.SGD
    optimizer = kind(groups_of(weights(), as_tensor), **hyper)
    schedule = SCHEDULERS[scheduler](optimizer)
    values = []
    for _ in range(STEPS):
        values.append(values_of(optimizer))
        optimizer.step()
        schedule.step(*[1.0] if scheduler == "ReduceLROnPlateau" else [])
    return values


@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@each
def test_schedulers(name: str, scheduler: str, as_tensor: bool, backend: str) -> None:
    """The values are those that torch's optimizers get, and steps are as if they were set."""
    scheduled, by_hand = weights(), weights()
    first = make(name, groups_of(scheduled, as_tensor), backend, **typical(name))
    schedule = SCHEDULERS[scheduler](first)
    second = make(name, groups_of(by_hand, False), backend, **typical(name))
    expected = values_of_torch(name, scheduler, as_tensor)
    for g, values in zip(gradients(), expected, strict=True):
        assert values_of(first) == values
        for group, of_group in zip(second.param_groups, values, strict=True):
            group.update(of_group)
        take_steps(first, scheduled, [g])
        take_steps(second, by_hand, [g])
        schedule.step(*[1.0] if scheduler == "ReduceLROnPlateau" else [])
    unscheduled = weights()
    constant = make(name, groups_of(unscheduled, False), backend, **typical(name))
    take_steps(constant, unscheduled, gradients())
    for a, b, c in zip(scheduled, by_hand, unscheduled, strict=True):
        assert_same(a, b)
        assert not torch.equal(a, c)
    assert any(v[0]["lr"] != expected[0][0]["lr"] for v in expected)
    if scheduler in CYCLES_MOMENTUM:
        key = "betas" if moment_of(name) == "exp_avg" else "momentum"
        assert any(v[0][key] != expected[0][0][key] for v in expected)


# Another value of each argument than `typical` has.
OTHERS: dict[str, Any] = {
    "lr": 0.07,
    "betas": (0.5, 0.8),
    "momentum": 0.5,
    "dampening": 0.3,
    "eps": 0.2,
    "weight_decay": 0.2,
    "grad_clip": 0.5,
    "nesterov": True,
    "delta": 6.0,
    "wd_ratio": 0.5,
    "decision": "filter",
    "radius": 2.0,
    "tangent": True,
    "zero_mean": False,
    "update_norm_decay_factor": 0.5,
    "rotational_eps": 0.2,
    "trust_coefficient": 0.1,
    "always_adapt": True,
    "channel_dims": (0, 1),
    "decoupled_weight_decay": True,
    "maximize": True,
    "capturable": True,
    "foreach": False,
    "fused": False,
    "backend": "reference",
}
# Which of them say how a step is taken, and not what it is.
HOW = ("capturable", "foreach", "fused", "backend")
OVERRIDES = [
    (name, key) for name in OPTIMIZERS for key in make(name, weights(), **least(name)).defaults
]


@pytest.mark.parametrize(("name", "key"), OVERRIDES)
def test_every_argument_may_differ_between_groups(name: str, key: str, backend: str) -> None:
    params = weights()
    groups: list[dict[str, Any]] = [{"params": [p]} for p in params]
    # That of `backend` may contradict that of the other group.
    groups[0]["backend"] = backend
    groups[1].update({"backend": None if key == "fused" else backend, key: OTHERS[key]})
    optimizer = make(name, groups, **typical(name))
    grads = gradients()
    take_steps(optimizer, params, grads)
    own = {} if key in HOW else {key: OTHERS[key]}
    for i, hyper in enumerate([typical(name), {**typical(name), **own}]):
        of_param = [g[i] for g in grads]
        state = optimizer.state[params[i]]
        assert_close_to_oracle(name, weights()[i], of_param, params[i], state, **hyper)


# State does not fit other channel_dims, and keeps the radius that it was made with.
FIXED = ("channel_dims", "radius")


@pytest.mark.parametrize(("name", "key"), [o for o in OVERRIDES if o[1] not in FIXED])
def test_every_argument_may_change_between_steps(name: str, key: str, backend: str) -> None:
    """As in a copy, which prepares its steps anew."""
    params, grads = weights(), gradients()
    optimizer = make(name, [{"params": [p]} for p in params], backend, **typical(name))
    take_steps(optimizer, params, grads[:3])
    optimizer.param_groups[1][key] = OTHERS[key]
    if key == "fused":
        optimizer.param_groups[1]["backend"] = None
    unchanged = copy.deepcopy(params)
    twin, twins = copy.deepcopy((optimizer, params))
    take_steps(optimizer, params, grads[3:])
    take_steps(twin, twins, grads[3:])
    for p, q in zip(params, twins, strict=True):
        assert_same(p, q)
    assert not torch.equal(params[1], unchanged[1])
