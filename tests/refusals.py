"""What is refused leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest
from cases import least
from oracles.tolerance import assert_same
from stepping import make, random, random_grads
from torch import Tensor


def several_good() -> list[Tensor]:
    return [random(6, 5, seed=1), random(4, 3, 3, 3, seed=2), random(7, seed=3)]


def grads_of(params: list[Tensor]) -> list[Tensor]:
    return [random_grads(p.shape, 1, seed=100 * i)[0] for i, p in enumerate(params)]


def assert_construction_refused(
    name: str, bad: Any, backend: str | None, error: type[Exception], match: str, **hyper: Any
) -> None:
    """With `bad` last among good parameters, which must stay as they are."""
    good = several_good()
    kept = [p.clone() for p in good]
    with pytest.raises(error, match=match):
        make(name, [*good, *bad], backend, **{**least(name), **hyper})
    for p, before in zip(good, kept, strict=True):
        assert_same(p, before)
