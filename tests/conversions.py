"""Adam half way through a run, and converters that refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from stepping import assert_unchanged, random, random_grads, snapshot, take_steps
from torch import Tensor
from torch.optim import Adam, Optimizer

SHAPES = [(6, 5), (4, 3, 3, 3), (7,)]


def setting(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[list[Tensor]]]:
    grads = [random_grads(shape, 6, dtype, seed=100 * i) for i, shape in enumerate(SHAPES)]
    weights = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]
    return weights, [list(of_step) for of_step in zip(*grads, strict=True)]


def adam_half_way(
    kind: type[Optimizer] = Adam, dtype: torch.dtype = torch.float32, **hyper: Any
) -> tuple[Optimizer, list[Tensor], list[list[Tensor]]]:
    params, grads = setting(dtype)
    adam = kind(params, **{"lr": 0.03, "betas": (0.8, 0.95), "foreach": False, **hyper})
    take_steps(adam, params, grads[:3])
    return adam, params, grads[3:]


def assert_refused(
    convert: Any, checkpoint: Any, optimizer: Optimizer, error: type[Exception], match: str
) -> None:
    before, given = snapshot(optimizer), copy.deepcopy(checkpoint)
    with pytest.raises(error, match=match):
        convert(checkpoint, optimizer)
    assert_unchanged(optimizer, before)
    assert str(checkpoint) == str(given)
