"""Arguments out of range, and weights that an optimizer cannot normalize, are refused whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import FIXED_RADIUS, REPRESENTATIVES, known, least
from oracles.tolerance import assert_same
from refusals import assert_construction_refused, several_good
from stepping import make, random
from torch import Tensor

nan = float("nan")
COMMON_VALUES = [
    ({"lr": -1e-3}, ValueError, "lr must"),
    ({"lr": nan}, ValueError, "lr must"),
    ({"lr": float("inf")}, ValueError, "lr must"),
    ({"lr": torch.ones(2)}, ValueError, "lr must"),
    ({"lr": torch.tensor(-0.1)}, ValueError, "lr must"),
    ({"lr": "0.1"}, TypeError, "lr must be a number or a one-element tensor, not '0.1'"),
    ({"lr": None}, TypeError, "lr must be a number"),
    ({"weight_decay": -1e-3}, ValueError, "weight_decay must"),
    ({"weight_decay": nan}, ValueError, "weight_decay must"),
    ({"weight_decay": None}, TypeError, "weight_decay must be a number"),
    ({"channel_dims": (4,)}, ValueError, "channel_dims=.*names a dim"),
    ({"channel_dims": (1,)}, ValueError, "channel_dims=.*names a dim"),  # the bias is 1-D
    ({"channel_dims": (-3,)}, ValueError, "channel_dims=.*names a dim"),
    ({"channel_dims": (0, 0)}, ValueError, "channel_dims=.*twice"),
    ({"channel_dims": (0, -1)}, ValueError, "channel_dims=.*twice"),  # one and the same in 1-D
    ({"channel_dims": 0}, TypeError, "channel_dims must"),
    ({"channel_dims": "0"}, TypeError, "channel_dims must"),
    ({"channel_dims": (0.0,)}, TypeError, "channel_dims must"),
    ({"backend": "cuda"}, ValueError, "unknown backend 'cuda'.*native.*reference"),
    ({"backend": "Native"}, ValueError, "unknown backend"),
    ({"backend": "triton", "channel_dims": (4,)}, ValueError, "channel_dims=.*names a dim"),
    ({"backend": "native", "fused": False}, ValueError, "fused=False contradicts"),
    ({"backend": "reference", "fused": True}, ValueError, "fused=True contradicts"),
]
ADAM_VALUES = [
    ({"eps": -1e-8}, ValueError, "eps must"),
    ({"eps": nan}, ValueError, "eps must"),
    ({"eps": "1e-8"}, TypeError, "eps must be a number"),
    ({"betas": (1.0, 0.9)}, ValueError, "betas must"),
    ({"betas": (0.9, 1.0)}, ValueError, "betas must"),
    ({"betas": (-0.1, 0.9)}, ValueError, "betas must"),
    ({"betas": (0.9, 1.5)}, ValueError, "betas must"),
    ({"betas": (nan, 0.9)}, ValueError, "betas must"),
    ({"betas": (0.9,)}, ValueError, "betas must"),
    ({"betas": (0.9, 0.9, 0.9)}, ValueError, "betas must"),
    ({"betas": 0.9}, TypeError, "betas must be two numbers, not 0.9"),
    ({"betas": (0.9, None)}, TypeError, r"betas\[1\] must be a number"),
    ({"betas": (torch.ones(2), 0.9)}, ValueError, r"betas\[0\] must .*shape \(2,\)"),
]
ADAMG_VALUES = [
    ({"grad_clip": 0.0}, ValueError, "grad_clip must"),
    ({"grad_clip": -1.0}, ValueError, "grad_clip must"),
    ({"grad_clip": nan}, ValueError, "grad_clip must"),
    ({"grad_clip": "1"}, TypeError, "grad_clip must be a number"),
]
SGD_VALUES = [
    ({"momentum": -0.1}, ValueError, "momentum must"),
    ({"momentum": nan}, ValueError, "momentum must"),
    ({"dampening": nan}, ValueError, "dampening must"),
    ({"momentum": None}, TypeError, "momentum must be a number"),
    ({"eps": -1e-8}, ValueError, "eps must"),
]
PROJECTED_VALUES = [
    ({"delta": -0.1}, ValueError, "delta must be at least 0"),
    ({"delta": nan}, ValueError, "delta must"),
    ({"delta": "0.1"}, TypeError, "delta must be a number"),
    ({"wd_ratio": -1.0}, ValueError, "wd_ratio must be at least 0"),
    ({"decision": "row"}, ValueError, 'decision must be "tensor" or "filter", not \'row\''),
]
ROTATIONAL_VALUES = [
    ({"rotational_eps": -1e-8}, ValueError, "rotational_eps must be at least 0"),
    ({"rotational_eps": None}, TypeError, "rotational_eps must be a number"),
    ({"update_norm_decay_factor": 1.0}, ValueError, "update_norm_decay_factor must .* below 1"),
    ({"update_norm_decay_factor": -0.1}, ValueError, "update_norm_decay_factor must"),
]
OWN_VALUES = [
    *(("AdamG", *value) for value in ADAMG_VALUES),
    *((name, *value) for name in ("AdamP", "SGDP") for value in PROJECTED_VALUES),
    # Its weight decay is divided by 1 - momentum.
    ("SGDP", {"momentum": 1.0}, ValueError, "momentum must be at least 0 and below 1"),
    ("NormAdamW", {"radius": 0}, ValueError, "radius must be above 0"),
    ("NormAdamW", {"radius": -1.0}, ValueError, "radius must"),
    ("NormAdamW", {"radius": nan}, ValueError, "radius must"),
    ("NormAdamW", {"radius": None}, TypeError, "radius must be a number"),
    ("NormAdamW", {"radius": "mean"}, ValueError, 'radius must be "init", "sqrt_dim" or a'),
    ("NormAdamW", {"tangent": "no"}, TypeError, "tangent must be a number, not 'no'"),
    *(
        (name, *value)
        for name in ("RotationalAdamW", "RotationalSGDM", "RotationalLion")
        for value in ROTATIONAL_VALUES
    ),
    ("LARS", {"trust_coefficient": -1e-3}, ValueError, "trust_coefficient must be at least 0"),
    ("LARS", {"trust_coefficient": nan}, ValueError, "trust_coefficient must"),
]
HOW = ("backend", "fused")
VALUES = [
    *((name, *value) for name in REPRESENTATIVES for value in COMMON_VALUES),
    *((name, *value) for name in ("AdamSRT", "LAMB", "RotationalLion") for value in ADAM_VALUES),
    *((name, *value) for name in ("SGDMRT", "LARS") for value in SGD_VALUES),
    *OWN_VALUES,
]
VALUES = [v for v in VALUES if len(known(v[0], **v[1])) == len(v[1].keys() - HOW)]


@pytest.mark.parametrize(("name", "values", "error", "match"), VALUES)
def test_values_out_of_range(
    name: str, values: dict[str, Any], error: type[Exception], match: str
) -> None:
    values = dict(values)
    backend = values.pop("backend", None)
    assert_construction_refused(name, [], backend, error, match, **values)


@pytest.mark.parametrize(("name", "values", "error", "match"), VALUES)
def test_values_out_of_range_in_the_last_group(
    name: str, values: dict[str, Any], error: type[Exception], match: str
) -> None:
    good = several_good()
    kept = [p.clone() for p in good]
    with pytest.raises(error, match=match):
        make(name, [{"params": good[:2]}, {"params": good[2:], **values}], **least(name))
    for p, before in zip(good, kept, strict=True):
        assert_same(p, before)


def with_a_row(value: float) -> Tensor:
    p = random(4, 5, seed=4)
    p[2] = value
    return p


def test_a_value_that_only_a_step_finds(backend: str) -> None:
    """SGDP divides by 1 - momentum, which a scheduler may have set to 0."""
    p = random(3, 4, seed=0).requires_grad_()
    opt = make("SGDP", [p], backend, momentum=0.9)
    p.grad = torch.ones(3, 4)
    opt.param_groups[0]["momentum"] = 1.0
    before = p.detach().clone()
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1, not 1"):
        opt.step()
    assert_same(p, before, "the weight")


@pytest.mark.parametrize("value", [0.0, nan])
@pytest.mark.parametrize("name", FIXED_RADIUS)
def test_segments_without_a_direction(name: str, value: float, backend: str) -> None:
    match = r"parameter 3 .*has a segment of norm 0 \(or NaN\).*channel_dims=None"
    by_rows = {"channel_dims": (0,)}
    assert_construction_refused(name, [with_a_row(value)], backend, ValueError, match, **by_rows)


@pytest.mark.parametrize("name", ["RotationalAdamW", "RotationalSGDM", "RotationalLion"])
def test_segments_of_which_centring_leaves_nothing(name: str, backend: str) -> None:
    match = "parameter 3 .*segment of equal elements.*zero_mean=False"
    bad = with_a_row(0.1)
    assert_construction_refused(name, [bad], backend, ValueError, match)
    make(name, [bad], backend, zero_mean=False, **least(name))
    # Which is not centred either.
    make(name, [bad], backend, **{**least(name), "weight_decay": 0.0})


@pytest.mark.parametrize("name", FIXED_RADIUS)
def test_weights_that_are_not_there_have_no_norm(name: str) -> None:
    bad = [torch.empty(4, 5, device="meta")]
    match = "parameter 3 .*meta device, where there is nothing to normalize"
    assert_construction_refused(name, bad, None, RuntimeError, match)
