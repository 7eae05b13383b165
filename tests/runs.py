"""A small model and its optimizer, half way through training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import known, typical
from oracles.tolerance import assert_same
from stepping import make, random
from torch import Tensor, nn
from torch.optim import Optimizer


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        nn.Flatten(),
        nn.Linear(3, 2),
    )


def train(model: nn.Module, optimizer: Optimizer, batches: range) -> None:
    for batch in batches:
        optimizer.zero_grad()
        loss = model(random(8, 2, 4, 4, seed=batch)) - random(8, 2, seed=batch + 1)
        loss.square().mean().backward()
        optimizer.step()


def one_group(model: nn.Sequential) -> Any:
    return model.parameters()


def named(model: nn.Sequential) -> Any:
    return model.named_parameters()


def several_groups(model: nn.Sequential) -> Any:
    head = {"params": model[5].parameters(), "channel_dims": None, "lr": torch.tensor(0.0625)}
    second = {"params": model[3].parameters(), "channel_dims": (0,), "weight_decay": 0.3}
    whole = {"params": [model[0].weight], "channel_dims": (), "maximize": True}
    norm = {"params": model[1].parameters(), "decoupled_weight_decay": True}
    return [head, second, whole, norm]


def frozen(model: nn.Sequential) -> Any:
    model[0].requires_grad_(False)
    return model.parameters()


GROUPS: list[Callable[[nn.Sequential], Any]] = [one_group, named, several_groups, frozen]
each_grouping = pytest.mark.parametrize("groups", GROUPS, ids=lambda f: f.__name__)


class Run:
    """A model and its optimizer."""

    def __init__(
        self, name: str, groups: Callable[[nn.Sequential], Any], backend: str | None, seed: int = 0
    ) -> None:
        self.model = network(seed)
        params = groups(self.model)
        if isinstance(params, list):
            params = [{"params": g["params"], **known(name, **g)} for g in params]
        self.optimizer = make(name, params, backend, **typical(name))

    def take(self, *batches: int) -> Run:
        train(self.model, self.optimizer, range(*batches))
        return self

    def weights(self) -> dict[str, Tensor]:
        return {k: v.clone() for k, v in self.model.state_dict().items()}

    def assert_weights(self, expected: dict[str, Tensor]) -> None:
        for key, value in self.model.state_dict().items():
            assert_same(value, expected[key], key)


def assert_equal_state_dicts(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["state"].keys() == b["state"].keys()
    for number, state in a["state"].items():
        assert state.keys() == b["state"][number].keys()
        for key, value in state.items():
            assert_same(value, b["state"][number][key], f"{key} of {number}")
    assert len(a["param_groups"]) == len(b["param_groups"])
    for first, second in zip(a["param_groups"], b["param_groups"], strict=True):
        assert first == second
        assert {k: type(v) for k, v in first.items()} == {k: type(v) for k, v in second.items()}
