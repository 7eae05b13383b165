"""Runs of our optimizers as torch's own tests have them, over the inputs of torch_infos.py."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, least
from conftest import skip_unless_available
from stepping import random
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map
from torch_infos import INFOS, common

# What is the same for every formula is asked of some.
SOME = [info for info in INFOS if info.name in REPRESENTATIVES]
INPUTS = [(info, i) for info in INFOS for i in info.optim_inputs_func("cpu")]
SOME_INPUTS = [pair for pair in INPUTS if pair[0] in SOME]
# The same with fused=False and with fused=True.
CONFIGS = [
    (info, i)
    for info in SOME
    for i in common._get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float32, info)
]


def ids(pairs: list[tuple[Any, Any]]) -> list[str]:
    return [f"{info.name}-{getattr(i, 'optimizer_error_input', i).desc}" for info, i in pairs]


each = pytest.mark.parametrize("info", SOME, ids=lambda info: info.name)
every_input = pytest.mark.parametrize(("info", "given"), INPUTS, ids=ids(INPUTS))
each_input = pytest.mark.parametrize(
    ("info", "given"),
    SOME_INPUTS,
    ids=ids(SOME_INPUTS),
)
each_config = pytest.mark.parametrize(("info", "given"), CONFIGS, ids=ids(CONFIGS))


def made(info: Any, params: Any, **kwargs: Any) -> Optimizer:
    if kwargs.get("fused"):
        skip_unless_available("native")
    kwargs = {**least(info.name), **copy.deepcopy(kwargs)}  # schedulers write into a tensor lr
    return info.optim_cls(params, **kwargs)


def weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A matrix and a bias to train."""
    return [random(10, 5, seed=1, dtype=dtype), random(10, seed=2, dtype=dtype)]


def leaves(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def loss_of(params: list[Tensor]) -> Tensor:
    weight, bias = params
    x = torch.nn.functional.normalize(random(5, seed=3, dtype=weight.dtype), dim=0)
    return (weight.mv(x) + bias).square().sum()


def closure_of(optimizer: Optimizer, params: list[Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(params)
        loss.backward()
        return loss

    return closure


def train(optimizer: Optimizer, params: list[Tensor], steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.step(closure_of(optimizer, params))


def half_way(info: Any, **kwargs: Any) -> tuple[Optimizer, list[Tensor]]:
    params = leaves(weights())
    optimizer = made(info, params, **kwargs)
    train(optimizer, params)
    return optimizer, params


def loaded(
    info: Any, state_dict: dict[str, Any], weights: list[Tensor], **kwargs: Any
) -> tuple[Optimizer, list[Tensor]]:
    """A new optimizer of copies of `weights` that goes on from `state_dict`."""
    params = leaves(weights)
    optimizer = made(info, params, **kwargs)
    optimizer.load_state_dict(state_dict)
    for p, w in zip(params, weights, strict=True):
        p.data.copy_(w)  # which some constructors have normalized
    return optimizer, params


def as_numbers(kwargs: dict[str, Any]) -> dict[str, Any]:
    return tree_map(lambda v: v.item() if isinstance(v, Tensor) else v, kwargs)


def assert_all_same(actual: Any, expected: Any) -> None:
    def comparable(tree: Any) -> Any:
        return tree_map(lambda v: list(v.encode()) if isinstance(v, str) else v, tree)

    torch.testing.assert_close(comparable(actual), comparable(expected), rtol=0, atol=0)
