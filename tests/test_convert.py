"""Checkpoints of torch's Adam, as checkpoints of ours."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from conversions import adam_half_way, assert_refused, setting
from oracles.tolerance import IDENTITY, assert_same, error
from stepping import make, random, random_grads, take_steps
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR

import sphere_fused
from sphere_fused import from_adam

STARTED = ["AdamS", "AdamST", "AdamSRT"]
DTYPES = [torch.float32, torch.float64]


def started(
    name: str, adam: Optimizer, params: Sequence[Tensor], backend: str | None = None, **hyper: Any
) -> tuple[Optimizer, list[Tensor]]:
    """One of ours that has loaded the checkpoint of `adam`, and its own copies of `params`."""
    own = [p.detach().clone() for p in params]
    optimizer = make(name, own, backend, **hyper)
    checkpoint = copy.deepcopy(adam.state_dict())
    optimizer.load_state_dict(from_adam(checkpoint, optimizer))
    return optimizer, own


@pytest.mark.parametrize("hyper", [{}, {"weight_decay": 0.3}, {"maximize": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("name", STARTED)
def test_without_segments_adam_goes_on(
    name: str, kind: type[Optimizer], dtype: torch.dtype, hyper: dict[str, Any], backend: str
) -> None:
    adam, params, rest = adam_half_way(kind, dtype, eps=0.1, **hyper)
    optimizer, own = started(name, adam, params, backend, channel_dims=None)
    take_steps(adam, params, rest)
    take_steps(optimizer, own, rest)
    for p, q in zip(params, own, strict=True):
        assert error(q, p) <= IDENTITY[dtype]
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert error(optimizer.state[q][key], adam.state[p][key]) <= IDENTITY[dtype]


def segments(shape: Sequence[int], dims: Sequence[int]) -> dict[tuple[int, ...], list[Any]]:
    """The indices of the elements of each segment, by the segment's own indices."""
    found: dict[tuple[int, ...], list[Any]] = {}
    for index in itertools.product(*(range(n) for n in shape)):
        found.setdefault(tuple(index[d] for d in dims), []).append(index)
    return found


@pytest.mark.parametrize("dims", [(0,), (), (0, 1), (1,), (2, 0)], ids=str)
def test_s_is_the_sum_over_the_segment(dims: tuple[int, ...]) -> None:
    p = random(4, 3, 3, 2, seed=1)
    adam = Adam([p])
    take_steps(adam, [p], [[g] for g in random_grads((4, 3, 3, 2), 3)])
    optimizer, (q,) = started("AdamSRT", adam, [p], channel_dims=dims)
    s, v = optimizer.state[q]["exp_avg_sq"], adam.state[p]["exp_avg_sq"]
    assert s.shape == tuple(n if d in dims else 1 for d, n in enumerate(p.shape))
    for segment, elements in segments(p.shape, dims).items():
        where = dict(zip(dims, segment, strict=True))
        expected = math.fsum(v[i].item() for i in elements)
        actual = s[tuple(where.get(d, 0) for d in range(4))].item()
        assert actual == pytest.approx(expected, rel=1e-7)
    assert_same(optimizer.state[q]["exp_avg"], adam.state[p]["exp_avg"])
    assert_same(optimizer.state[q]["step"], adam.state[p]["step"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_are_those_of_a_run_with_the_same_gradients(
    dtype: torch.dtype, backend: str
) -> None:
    """Without decay AdamS's moments do not depend on where the weights are."""
    adam, params, rest = adam_half_way(dtype=dtype)
    optimizer, own = started("AdamS", adam, params, backend)
    all_along, grads = setting(dtype)
    expected = make("AdamS", all_along, backend, lr=0.03, betas=(0.8, 0.95))
    take_steps(expected, all_along, grads[:3])
    for p, q in zip(params, all_along, strict=True):
        q.copy_(p)
    for number in range(2):
        for p, q in zip(own, all_along, strict=True):
            assert error(p, q) <= IDENTITY[dtype]
            for key, value in expected.state[q].items():
                assert error(optimizer.state[p][key], value) <= IDENTITY[dtype], (key, number)
        take_steps(optimizer, own, rest)
        take_steps(expected, all_along, rest)


def test_low_precision_becomes_wide() -> None:
    adam, params, _ = adam_half_way(dtype=torch.bfloat16)
    optimizer, own = started("AdamSRT", adam, params)
    for p, q in zip(params, own, strict=True):
        state = optimizer.state[q]
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
        total = adam.state[p]["exp_avg_sq"].double().sum()
        assert error(state["exp_avg_sq"].double().sum(), total) <= 1e-7


def images() -> tuple[Tensor, Tensor]:
    x = random(96, 3, 8, 8, seed=1)
    return x, (x[:, 0].mean((1, 2)) > x[:, 1].mean((1, 2))).long()


class Network(nn.Sequential):
    """Filters with BatchNorm behind them, and a head."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        convs = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        super().__init__(*convs, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2))

    def groups(self) -> list[dict[str, Any]]:
        """As README recommends."""
        head = {"params": list(self[5].named_parameters("5")), "channel_dims": None}
        return [{"params": [("0.weight", self[0].weight), *self[1].named_parameters("1")]}, head]

    def train_with(self, optimizer: Optimizer, epochs: int) -> list[float]:
        losses = []
        x, y = images()
        for _ in range(epochs):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


@pytest.mark.parametrize("name", STARTED)
def test_a_network_goes_on_learning(name: str, backend: str) -> None:
    model = Network()
    adam = Adam(model.parameters(), lr=0.02)
    before = model.train_with(adam, 15)
    optimizer = make(name, model.groups(), backend)
    optimizer.load_state_dict(from_adam(adam.state_dict(), optimizer))
    after = model.train_with(optimizer, 15)
    # No jump where the optimizers change, and on downwards as Adam would.
    assert after[1] < before[-1]
    assert after[-1] < 0.6 * before[-1]


def test_groups_may_be_others_and_take_the_hyperparameters_along() -> None:
    model = Network()
    lr = torch.tensor(0.01)
    adam = AdamW(model.parameters(), lr=lr, betas=(0.7, 0.8), eps=1e-6, foreach=False)
    ExponentialLR(adam, 0.5)
    model.train_with(adam, 2)
    optimizer = make("AdamSRT", model.groups(), "reference", lr=0.5, weight_decay=0.3)
    checkpoint = from_adam(adam.state_dict(), optimizer)
    assert [group["foreach"] for group in checkpoint["param_groups"]] == [None, None]
    optimizer.load_state_dict(checkpoint)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.7, 0.8), 1e-6)
        assert group["initial_lr"] == 0.01
        assert (group["weight_decay"], group["decoupled_weight_decay"]) == (0.01, True)
        assert group["backend"] == "reference"
        assert not {"amsgrad", "differentiable"} & set(group)
    assert [g["channel_dims"] for g in optimizer.param_groups] == [(0,), None]
    assert optimizer.param_groups[1]["param_names"] == ["5.weight", "5.bias"]
    for p in model.parameters():
        assert_same(optimizer.state[p]["exp_avg"], adam.state[p]["exp_avg"])


def test_names_decide_where_both_have_them() -> None:
    model = Network()
    adam = Adam(reversed(list(model.named_parameters())))
    model.train_with(adam, 2)
    optimizer = make("AdamSRT", model.groups())
    optimizer.load_state_dict(from_adam(adam.state_dict(), optimizer))
    for p in model.parameters():
        assert_same(optimizer.state[p]["exp_avg"], adam.state[p]["exp_avg"])
    renamed = adam.state_dict()
    renamed["param_groups"][0]["param_names"] = [f"module.{n}" for n, _ in model.named_parameters()]
    with pytest.raises(ValueError, match=r"no parameter '0.weight', but 'module.0.weight'"):
        from_adam(renamed, optimizer)


def test_a_checkpoint_that_does_not_tell_adam_from_adamw() -> None:
    adam, params, _ = adam_half_way(weight_decay=0.1)
    checkpoint = adam.state_dict()
    del checkpoint["param_groups"][0]["decoupled_weight_decay"]
    for decoupled in (False, True):
        optimizer = make("AdamS", params, decoupled_weight_decay=decoupled)
        optimizer.load_state_dict(from_adam(checkpoint, optimizer))
        assert optimizer.param_groups[0]["decoupled_weight_decay"] is decoupled
        assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_parameters_without_state_begin_afresh() -> None:
    params = [random(3, 4, seed=1), random(4, 4, seed=2), torch.zeros(0, 3)]
    adam = Adam(params)
    take_steps(adam, params, [[random(3, 4, seed=3), None, torch.zeros(0, 3)]])
    optimizer, own = started("AdamSRT", adam, params)
    assert [bool(optimizer.state.get(p)) for p in own] == [True, False, False]


def test_amsgrads_maximum_is_left_out_with_a_warning() -> None:
    adam, params, _ = adam_half_way(amsgrad=True)
    with pytest.warns(UserWarning, match="amsgrad=True.*max_exp_avg_sq is left out"):
        optimizer, own = started("AdamSRT", adam, params)
    assert set(optimizer.state[own[0]]) == {"step", "exp_avg", "exp_avg_sq"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started("AdamSRT", *adam_half_way()[:2])


def test_adam_of_other_shapes_is_refused_by_name() -> None:
    adam, _, _ = adam_half_way()
    model = [
        ("a", random(6, 5, seed=1)),
        ("b", random(4, 3, 3, 2, seed=2)),
        ("c", random(7, seed=3)),
    ]
    optimizer = make("AdamSRT", model)
    take_steps(optimizer, [p for _, p in model], [[torch.ones_like(p) for _, p in model]])
    match = (
        r"state 'exp_avg' of parameter 'b' \(4, 3, 3, 2\) has shape \(4, 3, 3, 3\) in the "
        r"checkpoint where \(4, 3, 3, 2\) is needed"
    )
    assert_refused(from_adam, adam.state_dict(), optimizer, RuntimeError, match)
    fewer = make("AdamSRT", [p for _, p in model[:2]])
    match = "3 parameters and the optimizer has 2"
    assert_refused(from_adam, adam.state_dict(), fewer, ValueError, match)


def test_what_is_no_checkpoint_of_adam_is_refused() -> None:
    params, grads = setting()
    optimizer = make("AdamSRT", params)
    sgd = torch.optim.SGD([p.clone() for p in params], momentum=0.9)
    for of_other in (sgd, make("AdamS", [p.clone() for p in params])):
        take_steps(of_other, of_other.param_groups[0]["params"], grads[:1])
    match = "not of torch.optim.Adam or AdamW, whose groups have betas and amsgrad"
    assert_refused(from_adam, sgd.state_dict(), optimizer, ValueError, match)
    radam = torch.optim.RAdam([p.clone() for p in params])
    assert_refused(from_adam, radam.state_dict(), optimizer, ValueError, match)
    file = {"model": {}, "optimizer": radam.state_dict()}
    match = r"has \['model', 'optimizer'\]: give the part of the file"
    assert_refused(from_adam, file, optimizer, ValueError, match)
    match = "not of torch.optim.Adam.*channel_dims.*load_state_dict.*from_paper"
    assert_refused(from_adam, of_other.state_dict(), optimizer, ValueError, match)


def test_adam_starts_no_other_optimizer() -> None:
    adam, params, _ = adam_half_way()
    match = "AdamST or AdamSRT, not SGDMRT"
    assert_refused(from_adam, adam.state_dict(), make("SGDMRT", params), TypeError, match)
    for name in ("AdamP", "RotationalAdamW", "RiemannianAdam"):
        other = make(name, params)
        assert_refused(from_adam, adam.state_dict(), other, TypeError, f"AdamSRT, not {name}$")
    match = "not AdamG, whose moments .* unit vectors"
    assert_refused(from_adam, adam.state_dict(), make("AdamG", params), TypeError, match)


def test_one_group_of_groups_that_differ_is_refused() -> None:
    params, grads = setting()
    adam = Adam([{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.1}])
    take_steps(adam, params, grads[:1])
    match = "group 0 come from groups of the checkpoint that differ in weight_decay"
    assert_refused(from_adam, adam.state_dict(), make("AdamS", params), ValueError, match)


def test_converters_are_public() -> None:
    assert {"from_adam", "from_paper"} <= set(sphere_fused.__all__)
