"""NaN and infinity in a gradient reach the segments they touch, and no others."""

from __future__ import annotations

import math

import pytest
import torch
from cases import OPTIMIZERS, typical
from layouts import contiguous, permuted
from oracles.tolerance import assert_same
from stepping import make, random, random_grads, take_steps

BAD = [math.nan, math.inf, -math.inf]

pytestmark = pytest.mark.interpreted


@pytest.mark.parametrize("lay", [contiguous, permuted(1, 0)], ids=["rows", "columns"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nonfinite_gradients_stay_in_their_segment(
    name: str, bad: float, dtype: torch.dtype, lay, backend: str
) -> None:
    shape = (21, 30)
    struck = [0, 8, 20]
    clean, dirty = (
        [lay(random(*shape, seed=1, dtype=dtype)), random(17, seed=2, dtype=dtype)]
        for _ in range(2)
    )
    grads = [[lay(g), random(17, seed=9, dtype=dtype)] for g in random_grads(shape, 3, dtype)]
    optimizers = [make(name, params, backend, **typical(name)) for params in (clean, dirty)]
    for t, of_step in enumerate(grads):
        take_steps(optimizers[0], clean, [of_step])
        spoilt = [g.clone() for g in of_step]
        if t == 1:
            spoilt[0][struck, [3, 0, 29]] = bad
            spoilt[1][4] = bad
        take_steps(optimizers[1], dirty, [spoilt])
    for i, hit in enumerate((struck, [4])):
        rows = torch.ones(len(dirty[i]), dtype=torch.bool)
        rows[hit] = False
        assert_same(dirty[i][rows], clean[i][rows])
        assert bool(torch.isfinite(dirty[i][rows]).all())
        for key, value in optimizers[1].state[dirty[i]].items():
            if key != "step":
                assert_same(value[rows], optimizers[0].state[clean[i]][key][rows], key)
        # It is not hidden either: training on would look healthy.
        per_row = dirty[i].reshape(len(dirty[i]), -1)
        assert not bool(torch.isfinite(per_row[hit]).all(dim=1).any())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nan_in_a_weight_stays_in_its_segment(name: str, backend: str) -> None:
    grads = random_grads((6, 30), 2)
    clean, dirty = random(6, 30, seed=3), random(6, 30, seed=3)
    optimizers = [make(name, [p], backend, **typical(name)) for p in (clean, dirty)]
    dirty[2, 7] = math.nan
    take_steps(optimizers[0], [clean], [[g] for g in grads])
    take_steps(optimizers[1], [dirty], [[g] for g in grads])
    rows = [0, 1, 3, 4, 5]
    assert_same(dirty[rows], clean[rows])
    assert bool(dirty[2].isnan().any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_but_finite_gradients_stay_finite(
    name: str, dtype: torch.dtype, backend: str
) -> None:
    """A sum of squares up to the largest float32."""
    p = random(4, 9, seed=4, dtype=dtype)
    optimizer = make(name, [p], backend, lr=1e-3)
    g = torch.full((4, 9), 1e18, dtype=dtype)
    if name == "SGDMRT":
        g = g * 1e-3
    g[:, ::2] *= -1
    take_steps(optimizer, [p], [[g], [g]])
    assert bool(torch.isfinite(p).all())
