"""Checkpoints of the paper's code, as checkpoints of ours."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from cases import typical
from conversions import SHAPES, adam_half_way, assert_refused, setting
from oracles import trajectory
from oracles.tolerance import assert_close_to_oracle, assert_same, error
from stepping import make, take_steps
from torch import Tensor

from sphere_fused import from_adam, from_paper

# What the paper's code would be given for what is channel_dims here.
PAPERS: list[tuple[Any, dict[str, Any]]] = [
    ((0,), {"channel_dims": None, "channel_wise": True}),
    ((0,), {"channel_dims": [0], "channel_wise": False}),
    ((), {"channel_dims": [], "channel_wise": False}),
    (None, {"channel_dims": None, "channel_wise": False}),
]
each_of_the_paper = pytest.mark.parametrize("name", ["AdamS", "AdamSRT", "SGDMRT"])
each_kind_of_dims = pytest.mark.parametrize(("dims", "group"), PAPERS, ids=str)


def of_the_paper(name: str, group: dict[str, Any], states: list[dict[str, Any]]) -> dict[str, Any]:
    """What that code's state_dict would be, after a file, where ours has `states`."""
    found = {}
    for number, (shape, state) in enumerate(zip(SHAPES, states, strict=True)):
        dims = group["channel_dims"]
        if dims is None:
            dims = [0] if group["channel_wise"] else list(range(len(shape)))
        found[number] = {"channel_dims": dims, "shape": torch.Size(shape)}
        for key, value in state.items():
            number_of_steps = key == "step"
            found[number][key] = int(value) if number_of_steps else value.expand(shape).clone()
    hyper = {k: v for k, v in typical(name).items() if k != "channel_dims"}
    extra = {"rt": name == "AdamSRT"} if name != "SGDMRT" else {}
    groups = [{**hyper, **group, **extra, "params": list(range(len(SHAPES)))}]
    file = io.BytesIO()
    torch.save({"state": found, "param_groups": groups}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def papers_half_way(name: str, dims: Any, group: dict[str, Any]) -> tuple[dict, list[Tensor]]:
    """A checkpoint of the paper's code in float64, and the weights that belong to it."""
    weights, grads = setting(torch.float64)
    runs = [
        trajectory(name, w, [g[i] for g in grads[:3]], channel_dims=dims, **typical(name))
        for i, w in enumerate(weights)
    ]
    counted = {} if name == "SGDMRT" else {"step": 3}
    return of_the_paper(name, group, [{**r.state, **counted} for r in runs]), [r.w for r in runs]


@each_kind_of_dims
@each_of_the_paper
def test_a_run_of_the_papers_code_goes_on(
    name: str, dims: Any, group: dict[str, Any], backend: str
) -> None:
    checkpoint, params = papers_half_way(name, dims, group)
    others = {"lr": 0.5, "decoupled_weight_decay": True, "maximize": True}
    optimizer = make(name, params, backend, **others)
    optimizer.load_state_dict(from_paper(checkpoint, optimizer))
    assert optimizer.param_groups[0]["channel_dims"] == dims
    assert not {"channel_wise", "rt"} & set(optimizer.param_groups[0])
    weights, grads = setting(torch.float64)
    take_steps(optimizer, params, grads[3:])
    for i, p in enumerate(params):
        hyper = {**typical(name), "channel_dims": dims}
        state, of_param = optimizer.state[p], [g[i] for g in grads]
        assert_close_to_oracle(name, weights[i], of_param, p, state, **hyper)


@each_kind_of_dims
@each_of_the_paper
def test_the_papers_format_loses_nothing(
    name: str, dims: Any, group: dict[str, Any], backend: str
) -> None:
    params, grads = setting()
    optimizer = make(name, params, backend, channel_dims=dims, **typical(name))
    take_steps(optimizer, params, grads[:3])
    checkpoint = of_the_paper(name, group, [optimizer.state[p] for p in params])
    own = [p.clone() for p in params]
    resumed = make(name, own, backend)
    resumed.load_state_dict(from_paper(checkpoint, resumed))
    take_steps(optimizer, params, grads[3:])
    take_steps(resumed, own, grads[3:])
    for p, q in zip(params, own, strict=True):
        assert_same(q, p)


def test_a_filter_may_be_constant_but_for_rounding() -> None:
    checkpoint, params = papers_half_way("AdamSRT", *PAPERS[0])
    v = checkpoint["state"][1]["exp_avg_sq"]
    expected = v[:, :1, :1, :1].clone()
    v[:, 1] *= 1 + 1e-6
    optimizer = make("AdamSRT", params)
    state = from_paper(checkpoint, optimizer)["state"][1]
    assert error(state["exp_avg_sq"], expected) <= 2e-6


def test_a_filter_that_had_diverged_is_taken_over() -> None:
    checkpoint, params = papers_half_way("AdamSRT", *PAPERS[0])
    checkpoint["state"][1]["exp_avg_sq"][2] = math.nan
    state = from_paper(checkpoint, make("AdamSRT", params))["state"][1]
    assert state["exp_avg_sq"].isnan().flatten().tolist() == [False, False, True, False]


@pytest.mark.parametrize("value", [2.0, 1.01, math.nan], ids=str)
def test_a_filter_that_is_not_constant_is_refused(value: float) -> None:
    checkpoint, params = papers_half_way("AdamSRT", *PAPERS[0])
    checkpoint["state"][1]["exp_avg_sq"][2, 1, 0, 1] *= value
    names = [(f"layer{i}", p) for i, p in enumerate(params)]
    match = r"'exp_avg_sq' of parameter 'layer1' \(4, 3, 3, 3\) .*not constant .* in 1 of 4"
    assert_refused(from_paper, checkpoint, make("AdamSRT", names), RuntimeError, match)


def test_contradictions_in_the_papers_format_are_refused() -> None:
    checkpoint, params = papers_half_way("AdamSRT", *PAPERS[0])
    optimizer = make("AdamSRT", params)

    def refused(error: type[Exception], match: str, **state: Any) -> None:
        changed = copy.deepcopy(checkpoint)
        changed["state"][1].update(state)
        assert_refused(from_paper, changed, optimizer, error, match)

    refused(
        RuntimeError, r"the parameter of .*\(4, 3, 9\).*\(4, 3, 3, 3\) is needed", shape=[4, 3, 9]
    )
    refused(RuntimeError, r"'exp_avg' of .*\(4,\).*\(4, 3, 3, 3\)", exp_avg=torch.zeros(4))
    refused(ValueError, r"channel_dims=\(0,\) in the group .*\[0, 1\] in its", channel_dims=[0, 1])
    refused(ValueError, "names a dim that parameter 1", channel_dims=[7])


def test_what_is_not_the_papers_format_is_refused() -> None:
    adam, params, _ = adam_half_way()
    optimizer = make("AdamSRT", params)
    match = r"parameter 0 of group 0 .*no channel_dims and shape.*from_adam"
    assert_refused(from_paper, adam.state_dict(), optimizer, ValueError, match)
    checkpoint, params = papers_half_way("SGDMRT", *PAPERS[0])
    match = r"has \['channel_dims', 'momentum_buffer', 'shape'\] and lacks \['step', 'exp_avg',"
    assert_refused(from_paper, checkpoint, make("AdamSRT", params), ValueError, match)
    match = "AdamSRT or SGDMRT, not AdamG, whose moments"
    assert_refused(from_paper, checkpoint, make("AdamG", params), TypeError, match)
    checkpoint, params = papers_half_way("AdamSRT", *PAPERS[0])
    match = "groups have channel_dims.*from_paper"
    assert_refused(from_adam, checkpoint, make("AdamSRT", params), ValueError, match)
