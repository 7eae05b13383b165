"""hyperball_ on every backend, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import hyperball
from oracles.tolerance import allowed_error, arithmetic_dtype, error
from stepping import random

import sphere_fused as sf

SHAPES = [(5, 7), (6, 5, 3, 3), (33,), (3, 1), (40, 1000)]
DIMS: list[tuple[int, ...] | None] = [(), (0,)]


@pytest.mark.interpreted
@pytest.mark.parametrize("dims", DIMS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "update_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
    ids=str,
)
def test_steps(
    dtype: torch.dtype, update_dtype: torch.dtype, dims: tuple[int, ...] | None, backend: str
) -> None:
    start = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]
    updates = [random(*shape, seed=50 + i, dtype=update_dtype) for i, shape in enumerate(SHAPES)]
    params = [torch.nn.Parameter(w.clone()) for w in start]
    lr = torch.tensor(0.3)
    sf.hyperball_(params, (u.clone() for u in updates), lr, channel_dims=dims, backend=backend)
    for w, u, p in zip(start, updates, params, strict=True):
        expected = hyperball(w, u, float(lr), dims)
        plain = hyperball(w, u, float(lr), dims, torch.float32).to(dtype)
        bound = allowed_error(plain, expected, arithmetic_dtype(dtype))
        assert error(p, expected) <= bound
        assert p.grad is None


@pytest.mark.interpreted
def test_zeros_are_left_as_they_are(backend: str) -> None:
    w = random(3, 4, seed=1)
    params, updates = [w.clone(), torch.zeros(3, 4)], [torch.zeros(3, 4), random(3, 4, seed=2)]
    sf.hyperball_(params, updates, 0.1, backend=backend)
    assert torch.equal(params[0], w)
    assert not params[1].any()


def weights() -> list[torch.Tensor]:
    return [random(3, 4, seed=3), random(2, 2, seed=4)]


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"updates": weights()[:1]}, ValueError, "there are 2 params and 1 updates: give as many"),
    (
        {"updates": [torch.ones(3, 4), torch.ones(2, 3)]},
        ValueError,
        r"the update of parameter 1 \(2, 2\) is \(2, 3\) on cpu .*: give one like the parameter",
    ),
    ({"updates": [torch.ones(3, 4), torch.ones(2, 2).int()]}, TypeError, "takes updates in"),
    ({"updates": [torch.ones(3, 4), None]}, TypeError, "must be a tensor, not None"),
    ({"lr": -0.1}, ValueError, "lr must be at least 0 and finite, not -0.1"),
    ({"lr": "fast"}, TypeError, "lr must be a number or a one-element tensor"),
    ({"channel_dims": (2,)}, ValueError, r"channel_dims=\(2,\) names a dim that parameter 0"),
    ({"channel_dims": 0}, TypeError, "channel_dims must be a tuple of ints or None, not 0"),
    ({"backend": "gpu"}, ValueError, "unknown backend 'gpu'"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG, ids=[m[:20] for *_, m in WRONG])
def test_errors_change_nothing(wrong: dict[str, Any], kind: type[Exception], message: str) -> None:
    params, before = weights(), weights()
    call = {"updates": [torch.ones(3, 4), torch.ones(2, 2)], "lr": 0.1, **wrong}
    with pytest.raises(kind, match=message):
        sf.hyperball_(params, **call)
    assert all(torch.equal(p, w) for p, w in zip(params, before, strict=True))


def test_overlapping_weights_are_refused() -> None:
    w = random(4, 4, seed=5)
    with pytest.raises(RuntimeError, match=r"parameter 0 .* and parameter 1 .* overlap in memory"):
        sf.hyperball_([w, w[1:]], [torch.ones(4, 4), torch.ones(3, 4)], 0.1)
