"""NaN and infinity in a gradient reach the segments they touch, and no others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from cases import OPTIMIZERS, known, least, moment_of, over
from layouts import permuted
from oracles.tolerance import assert_same
from stepping import make, random, random_grads, take_steps

BAD = [math.nan, math.inf, -math.inf]
# To the others a tensor is always one segment.
IN_SEGMENTS = [name for name in OPTIMIZERS if name not in ("LAMB", "LARS")]


def by_filter(name: str) -> dict[str, Any]:
    return {**over(name, (0,)), **known(name, decision="filter")}


@pytest.mark.parametrize(
    ("dtype", "bad", "order"),
    [
        *((torch.float32, bad, order) for bad in BAD for order in ((0, 1), (1, 0))),
        (torch.bfloat16, math.nan, (0, 1)),
        (torch.float64, math.inf, (0, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", IN_SEGMENTS)
def test_nonfinite_gradients_stay_in_their_segment(
    name: str, bad: float, dtype: torch.dtype, order: tuple[int, int], backend: str
) -> None:
    lay = permuted(*order)
    shape = (21, 30)
    struck = [0, 8, 20]
    clean, dirty = (
        [lay(random(*shape, seed=1, dtype=dtype)), random(17, seed=2, dtype=dtype)]
        for _ in range(2)
    )
    grads = [[lay(g), random(17, seed=9, dtype=dtype)] for g in random_grads(shape, 3, dtype)]
    optimizers = [make(name, params, backend, **by_filter(name)) for params in (clean, dirty)]
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
        kept = dirty[i]
        if name == "RotationalLion":  # infinity has a sign, and torch gives NaN the sign 0
            kept = optimizers[1].state[dirty[i]][moment_of(name)]
        per_row = kept.reshape(len(kept), -1)
        assert not bool(torch.isfinite(per_row[hit]).all(dim=1).any())


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("name", "hyper"),
    [("LAMB", {}), ("LARS", {"weight_decay": 0.1}), ("AdamP", {"delta": 6.0, "weight_decay": 0.1})],
    ids=["LAMB", "LARS", "AdamP"],
)
def test_nonfinite_gradients_stay_in_their_tensor(
    name: str, hyper: dict[str, Any], bad: float, backend: str
) -> None:
    """Where it is one segment all of it is lost; AdamP loses its decision with the one filter."""
    params = [random(9, 30, seed=i) for i in range(3)]
    clean = [p.clone() for p in params]
    grads = [random_grads((9, 30), 1, seed=10 * i)[0] for i in range(3)]
    take_steps(make(name, clean, backend, **hyper), clean, [grads])
    grads[1][4, 7] = bad
    take_steps(make(name, params, backend, **hyper), params, [grads])
    assert_same(params[0], clean[0])
    assert_same(params[2], clean[2])
    finite = torch.isfinite(params[1]).all(dim=1).tolist()
    assert finite == [name == "AdamP" and row != 4 for row in range(9)]


@pytest.mark.interpreted
@pytest.mark.parametrize("name", IN_SEGMENTS)
def test_nan_in_a_weight_stays_in_its_segment(name: str, backend: str) -> None:
    grads = random_grads((6, 30), 2)
    clean, dirty = random(6, 30, seed=3), random(6, 30, seed=3)
    optimizers = [make(name, [p], backend, **by_filter(name)) for p in (clean, dirty)]
    dirty[2, 7] = math.nan
    take_steps(optimizers[0], [clean], [[g] for g in grads])
    take_steps(optimizers[1], [dirty], [[g] for g in grads])
    rows = [0, 1, 3, 4, 5]
    assert_same(dirty[rows], clean[rows])
    assert bool(dirty[2].isnan().any())


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_but_finite_gradients_stay_finite(
    name: str, dtype: torch.dtype, backend: str
) -> None:
    """A sum of squares up to the largest float32."""
    p = random(4, 9, seed=4, dtype=dtype)
    optimizer = make(name, [p], backend, **{**least(name), "lr": 1e-3})
    g = torch.full((4, 9), 1e18, dtype=dtype)
    if name == "SGDMRT":
        g = g * 1e-3
    g[:, ::2] *= -1
    take_steps(optimizer, [p], [[g], [g]])
    assert bool(torch.isfinite(p).all())
