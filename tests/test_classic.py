"""Segments of one element are torch.optim's Adam, AdamW and SGD, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import counts_steps, known
from oracles import DEFAULTS
from oracles.tolerance import CLASSIC_ULPS, ulps
from stepping import make, random, random_grads
from torch import Tensor
from torch.optim import SGD, Adam, AdamW

# Which of them an optimizer is. RotationalLion is Lion, which torch has not; LAMB and LARS take
# one element as a segment. AdamH leaves weight decay out, SGDP has one of its own.
CLASSIC: dict[str, type[torch.optim.Optimizer]] = {
    **dict.fromkeys(["AdamS", "AdamST", "AdamSRT", "AdamG", "RiemannianAdam", "AdamH"], Adam),
    **dict.fromkeys(["AdamP", "NormAdamW", "RotationalAdamW"], AdamW),
    **dict.fromkeys(["SGDMRT", "SGDP", "RotationalSGDM", "RiemannianSGD"], SGD),
}
ADAM_CASES: dict[str, dict[str, Any]] = {
    "defaults": {"lr": 1e-3},
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
    "nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    # The others scale the first gradient too, and Rotational has none.
    "dampening": {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
}
# Shapes and channel_dims that leave one element per segment.
ELEMENTS = [((37,), (0,)), ((9, 7), None), ((4, 3, 3, 3), None), ((11, 1, 1), (0,)), ((), (0,))]


def cases_of(name: str) -> dict[str, dict[str, Any]]:
    """Those whose arguments the optimizer takes as torch means them."""
    cases = SGD_CASES if CLASSIC[name] is SGD else ADAM_CASES
    found = {case: hyper for case, hyper in cases.items() if known(name, **hyper) == hyper}
    if name != "RiemannianSGD":
        found.pop("dampening", None)
    if name == "SGDP":
        found = {case: hyper for case, hyper in found.items() if "weight_decay" not in hyper}
    return found


def torch_optimizer(name: str, p: Tensor, hyper: dict[str, Any]) -> torch.optim.Optimizer:
    kind = CLASSIC[name]
    if kind is not SGD:
        hyper = {key: DEFAULTS[name][key] for key in ("betas", "eps")} | hyper
        kind = AdamW if hyper.pop("decoupled_weight_decay", False) else kind
    return kind([p], foreach=False, fused=False, **{"weight_decay": 0.0, **hyper})


EVERY_CASE = [
    pytest.param(name, hyper, *ELEMENTS[0], id=f"{name}-{case}")
    for name in CLASSIC
    for case, hyper in cases_of(name).items()
]
EVERY_SHAPE = [
    pytest.param(name, cases_of(name)["weight-decay"], shape, dims, id=f"{name}-{shape}-{dims}")
    for name in ("AdamSRT", "RotationalAdamW", "SGDMRT", "RiemannianSGD")
    for shape, dims in ELEMENTS[1:]
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "hyper", "shape", "channel_dims"), EVERY_CASE + EVERY_SHAPE)
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
    own = known(name, channel_dims=channel_dims, weight_decay=0.0)
    optimizer = make(name, [ours], backend, **{**own, **hyper})
    peer = torch_optimizer(name, theirs, hyper)
    for g in random_grads(shape, 20, dtype):
        before = theirs.clone()
        old = {k: v.clone() for k, v in peer.state[theirs].items() if torch.is_tensor(v)}
        ours.grad, theirs.grad = g.clone(), g.clone()
        optimizer.step()
        peer.step()
        # Terms may cancel; a last place is then one of the terms. The change of w is the outcome of
        # half a dozen roundings, which show where it is larger than w.
        change = (theirs - before).abs()
        if name == "RiemannianSGD":  # to which the direction is two terms, the old buffer and g
            terms = g.abs() + hyper.get("weight_decay", 0.0) * before.abs()
            change = hyper["lr"] * (old.get("momentum_buffer", terms).abs() + terms)
        scale = before.abs() + 4 * change
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
        if counts_steps(name) and "step" in peer.state[theirs]:
            assert float(state["step"]) == float(peer.state[theirs]["step"])
