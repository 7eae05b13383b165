"""Segments of one element are torch.optim's Adam, AdamW and SGD, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import OPTIMIZERS
from oracles.tolerance import CLASSIC_ULPS, ulps
from stepping import make, random, random_grads
from torch import Tensor

ADAM_CASES: dict[str, dict[str, Any]] = {
    "defaults": {"lr": 1e-3, "betas": (0.9, 0.999)},
    "weight-decay": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1},
    "maximize": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
    "eps": {"lr": 0.05, "betas": (0.8, 0.9), "eps": 0.1},
    "decoupled": {"lr": 0.05, "weight_decay": 0.3, "decoupled_weight_decay": True},
}
SGD_CASES: dict[str, dict[str, Any]] = {
    "defaults": {"lr": 0.1},
    "momentum": {"lr": 0.1, "momentum": 0.9},
    "weight-decay": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "maximize": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
}
# Shapes and channel_dims that leave one element per segment.
ELEMENTS = [((37,), (0,)), ((9, 7), None), ((4, 3, 3, 3), None), ((11, 1, 1), (0,)), ((), (0,))]


def torch_optimizer(name: str, p: Tensor, hyper: dict[str, Any]) -> torch.optim.Optimizer:
    hyper = dict(hyper)
    decoupled = hyper.pop("decoupled_weight_decay", False)
    if name == "SGDMRT":
        return torch.optim.SGD([p], foreach=False, fused=False, **hyper)
    hyper = {"betas": (0.9, 0.99) if name == "AdamG" else (0.9, 0.999), **hyper}
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    return kind([p], foreach=False, fused=False, **{"weight_decay": 0.0, **hyper})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("shape", "channel_dims"), ELEMENTS, ids=str)
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        pytest.param(name, hyper, id=f"{name}-{case}")
        for name in OPTIMIZERS
        for case, hyper in (SGD_CASES if name == "SGDMRT" else ADAM_CASES).items()
    ],
)
def test_one_element_segments_equal_torch_step_by_step(
    name: str,
    hyper: dict[str, Any],
    shape: tuple[int, ...],
    channel_dims: tuple[int, ...] | None,
    dtype: torch.dtype,
    backend: str,
) -> None:
    ours = random(*shape, seed=1, dtype=dtype)
    theirs = ours.clone()
    optimizer = make(name, [ours], backend, channel_dims=channel_dims, **hyper)
    peer = torch_optimizer(name, theirs, hyper)
    for g in random_grads(shape, 20, dtype):
        before = theirs.clone()
        old = {k: v.clone() for k, v in peer.state[theirs].items() if torch.is_tensor(v)}
        ours.grad, theirs.grad = g.clone(), g.clone()
        optimizer.step()
        peer.step()
        # Terms may cancel; a last place is then one of the terms. The change of w is the outcome of
        # half a dozen roundings, which show where it is larger than w.
        scale = before.abs() + 4 * (theirs - before).abs()
        assert ulps(ours, theirs, scale) <= CLASSIC_ULPS, "weight"
        state = optimizer.state[ours]
        terms = g.abs() + hyper.get("weight_decay", 0.0) * before.abs()
        scales = {"exp_avg": terms, "momentum_buffer": terms, "exp_avg_sq": terms * terms}
        for key, scale in scales.items():
            expected = peer.state[theirs].get(key)
            if expected is None:
                continue
            scale = torch.maximum(scale, old.get(key, scale).abs())
            assert ulps(state[key], expected, scale) <= CLASSIC_ULPS, key
            # Differences must not add up over the steps: each is compared from the same start.
            state[key].copy_(expected)
        ours.copy_(theirs)
        if name != "SGDMRT":
            assert float(state["step"]) == float(peer.state[theirs]["step"])
