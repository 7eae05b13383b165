"""Every optimizer, case, dtype, shape and layout against the float64 oracle."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from cases import ALL, IDS, OPTIMIZERS, REPRESENTATIVES, of_length, over, typical
from layouts import LAYOUTS, Layout
from oracles import trajectory
from oracles.tolerance import EXACT, assert_close_to_oracle, assert_within, error, references
from stepping import make, random, random_grads, run, take_steps

# dtypes of parameter and gradient
DTYPES = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.float64, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
]
DTYPE_IDS = [f"{str(p)[6:]}-{str(g)[6:]}" for p, g in DTYPES]
# The typical case in all of them, the others in the two that tell mistakes from roundings.
CASES_AND_DTYPES = [
    pytest.param(*case, *dtypes, id=f"{case_id}-{dtype_id}")
    for case, case_id in zip(ALL, IDS, strict=True)
    for dtypes, dtype_id in zip(DTYPES, DTYPE_IDS, strict=True)
    if case[1] == "typical" or dtypes in DTYPES[:2]
]
# Filters, an odd matrix, and tensors that are stepped by Adam or SGD.
MODEL = [(6, 5, 3, 3), (9, 27), (33,), (4, 1), ()]


@pytest.mark.parametrize(("name", "case", "hyper", "dtype", "grad_dtype"), CASES_AND_DTYPES)
def test_cases_and_dtypes(
    name: str,
    case: str,
    hyper: dict[str, Any],
    dtype: torch.dtype,
    grad_dtype: torch.dtype,
    backend: str,
) -> None:
    start = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(MODEL)]
    grads = [random_grads(s, 5, grad_dtype, seed=100 * i) for i, s in enumerate(MODEL)]
    params = [w.clone() for w in start]
    optimizer = make(name, params, backend, **hyper)
    take_steps(optimizer, params, list(zip(*grads, strict=True)))
    for w0, of_param, p in zip(start, grads, params, strict=True):
        assert p.dtype == dtype
        assert_close_to_oracle(name, w0, of_param, p, optimizer.state[p], **hyper)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, name) for name in OPTIMIZERS]
    + [(dtype, name) for dtype in (torch.bfloat16, torch.float64) for name in REPRESENTATIVES],
)
def test_layouts(name: str, layout: Layout, dtype: torch.dtype, backend: str) -> None:
    w0 = random(*layout.shape, seed=1, dtype=dtype)
    grads = random_grads(layout.shape, 3, dtype)
    hyper = over(name, layout.channel_dims)
    if layout.shape == (5, 2):
        hyper = of_length(name, 2)
    p = layout.make(w0.clone())
    # Only the reference takes every layout; that the others refuse is a test of its own.
    optimizer = make(name, [p], backend if layout.blocks else None, **hyper)
    take_steps(optimizer, [p], [[layout.make(g)] for g in grads])
    assert_close_to_oracle(name, w0, grads, p, optimizer.state[p], **hyper)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("shape", "channel_dims"),
    [((1, 1_000_003), (0,)), ((3, 200_001), (0,)), ((1009, 499), ()), ((70_001, 5), (1,))],
    ids=["one-row", "three-rows", "whole", "columns"],
)
def test_long_segments(
    name: str, shape: tuple[int, ...], channel_dims: tuple[int, ...], backend: str
) -> None:
    w0 = random(*shape, seed=2)
    grads = random_grads(shape, 2)
    hyper = over(name, channel_dims)
    p, state = run(name, w0, grads, backend, **hyper)
    assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize("name", ["AdamS", "AdamSRT", "SGDMRT"])
@pytest.mark.parametrize("channel_dims", [(0,), (), None])
def test_float64_to_the_last_digits_over_200_steps(
    name: str, channel_dims: tuple[int, ...] | None, backend: str
) -> None:
    shape = (8, 5, 3, 3)
    w0 = random(*shape, seed=3, dtype=torch.float64)
    grads = random_grads(shape, 200, torch.float64)
    hyper: dict[str, Any] = {"lr": 1e-2, "weight_decay": 1e-3, "channel_dims": channel_dims}
    if name == "SGDMRT":
        hyper["momentum"] = 0.9
    p, state = run(name, w0, grads, backend, **hyper)
    oracle = trajectory(name, w0, grads, **hyper)
    assert error(p, oracle.w) <= EXACT
    for key, expected in oracle.state.items():
        assert error(state[key], expected) <= EXACT, key


DRIFT_SHAPE, DRIFT_STEPS = (12, 27), 2000


@cache
def drift_references(name: str, dtype: torch.dtype) -> tuple[Any, ...]:
    w0 = random(*DRIFT_SHAPE, seed=4, dtype=dtype)
    grads = random_grads(DRIFT_SHAPE, DRIFT_STEPS, dtype)
    return w0, grads, *references(name, w0, grads, dtype, **typical(name))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, name) for name in OPTIMIZERS]
    + [(torch.bfloat16, name) for name in REPRESENTATIVES],
)
def test_drift_over_thousands_of_steps(name: str, dtype: torch.dtype, backend: str) -> None:
    w0, grads, oracle, plain = drift_references(name, dtype)
    p, state = run(name, w0, grads, backend, **typical(name))
    assert_within(p, state, oracle, plain, f"{name} after {DRIFT_STEPS} steps in {dtype}")
