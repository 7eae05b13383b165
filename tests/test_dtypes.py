"""Precision: that of the state, and how weights are rounded to theirs."""

from __future__ import annotations

import pytest
import torch
from cases import REPRESENTATIVES, typical
from oracles import trajectory
from oracles.tolerance import ROUNDED_OTHERWISE, assert_same, ulps
from stepping import make, random, random_grads, run, take_steps

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("shape", [(6, 27), (33,)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_state_dtypes(name: str, dtype: torch.dtype, shape: tuple[int, ...], backend: str) -> None:
    w0 = random(*shape, seed=1, dtype=dtype)
    p, state = run(name, w0, random_grads(shape, 2, dtype), backend, **typical(name))
    assert p.dtype == dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for key, value in state.items():
        assert value.dtype == (torch.float32 if key == "step" else wide), key


@pytest.mark.parametrize("grad_dtype", [None, torch.float32], ids=["same", "float32"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_weights_are_rounded_to_the_nearest(
    name: str, dtype: torch.dtype, grad_dtype: torch.dtype | None, backend: str
) -> None:
    """One step in float64, rounded once, is what every element must be, but for those that a
    last place of float32 tips over a midpoint; these are one place off, and few."""
    shape = (64, 147)
    w0 = random(*shape, seed=2, dtype=dtype)
    grads = random_grads(shape, 1, grad_dtype or dtype)
    p, _ = run(name, w0, grads, backend, **typical(name))
    # What the constructor makes of the weight is rounded too.
    oracle = trajectory(name, w0, grads, store=dtype, **typical(name)).w.to(dtype)
    assert ulps(p, oracle) <= 1.0
    assert float((p != oracle).double().mean()) <= ROUNDED_OTHERWISE


@pytest.mark.interpreted
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_dtypes_side_by_side(name: str, backend: str) -> None:
    """One optimizer over all dtypes does to each what an optimizer of its own would."""
    kinds = [(p, g) for p in (torch.float32, torch.float64, *HALVES) for g in (p, torch.float32)]
    starts = [random(5, 9, seed=i, dtype=p) for i, (p, _) in enumerate(kinds)]
    grads = [random_grads((5, 9), 3, g, seed=50 * i) for i, (_, g) in enumerate(kinds)]
    together = [w.clone() for w in starts]
    optimizer = make(name, together, backend, **typical(name))
    take_steps(optimizer, together, list(zip(*grads, strict=True)))
    for w0, of_param, p in zip(starts, grads, together, strict=True):
        alone, _ = run(name, w0, of_param, backend, **typical(name))
        assert_same(p, alone, str(p.dtype))


@pytest.mark.interpreted
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_the_dtype_of_gradients_may_change(name: str, backend: str) -> None:
    w0 = random(5, 9, seed=3, dtype=torch.bfloat16)
    grads = random_grads((5, 9), 4, torch.bfloat16)
    plain, _ = run(name, w0, grads, backend, **typical(name))
    # A bfloat16 number is a float32 number: the bits of the run are the same.
    mixed = [g.float() if t % 2 else g for t, g in enumerate(grads)]
    p = w0.clone()
    p.grad_dtype = None
    optimizer = make(name, [p], backend, **typical(name))
    for g in mixed:
        p.grad = g
        optimizer.step()
    assert_same(p, plain)
