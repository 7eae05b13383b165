"""Checkpoints: files, other backends and devices, what is refused; copies."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, counts_steps, least, moment_of, typical
from layouts import channels_last, permuted, sliced, strided
from oracles import DEFAULTS
from oracles.tolerance import assert_close_to_oracle, assert_same
from runs import (
    Run,
    assert_equal_state_dicts,
    each_grouping,
    named,
    network,
    one_group,
    several_groups,
    train,
)
from stepping import assert_unchanged, make, random, random_grads, snapshot, take_steps
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

each = pytest.mark.parametrize("name", REPRESENTATIVES)
COUNTING = [name for name in REPRESENTATIVES if counts_steps(name)]


def another(backend: str) -> str | None:
    return None if backend == "reference" else "reference"


@each_grouping
@each
def test_a_run_goes_on_from_a_file(
    name: str, groups: Callable[[nn.Sequential], Any], backend: str, tmp_path: Path
) -> None:
    run = Run(name, groups, backend).take(3)
    torch.save(
        {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()},
        tmp_path / "run.pt",
    )
    at_save = copy.deepcopy(run.optimizer.state_dict())
    file = torch.load(tmp_path / "run.pt", weights_only=True)
    resumed = Run(name, groups, backend, seed=1).take(1)
    resumed.model.load_state_dict(file["model"])
    resumed.optimizer.load_state_dict(file["optimizer"])
    assert_equal_state_dicts(resumed.optimizer.state_dict(), at_save)
    resumed.take(3, 6).assert_weights(run.take(3, 6).weights())


@each
def test_a_file_holds_the_state_and_no_more(name: str, tmp_path: Path) -> None:
    """Of weights that are part of something larger, or lie in another order."""
    w = random(64, 3, 4, 5, seed=1)
    params = [lie(w) for lie in (sliced, strided, channels_last, permuted(3, 2, 1, 0))]
    params.append(torch.zeros(200_000)[1000:1100])
    optimizer = make(name, params, **typical(name))
    take_steps(optimizer, params, [[torch.ones_like(p) for p in params]])
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    tensors = [t for p in params for t in optimizer.state[p].values()]
    held = sum(t.numel() * t.element_size() for t in tensors)
    assert (tmp_path / "state.pt").stat().st_size < held + 1000 * (len(tensors) + 2)


@pytest.mark.interpreted
@each
def test_a_state_passes_through_another_backend(name: str, backend: str) -> None:
    params = [random(6, 5, seed=1), random(7, seed=2)]
    grads = [list(g) for g in zip(random_grads((6, 5), 5), random_grads((7,), 5), strict=True)]
    optimizer = make(name, params, backend, **typical(name))
    take_steps(optimizer, params, grads[:3])
    middle = [p.clone() for p in params]
    saved = copy.deepcopy(optimizer.state_dict())
    other = make(name, [p.clone() for p in params], another(backend), **least(name))
    other.load_state_dict(copy.deepcopy(saved))
    back = make(name, middle, backend, **least(name))
    for p, w in zip(middle, params, strict=True):
        p.copy_(w)  # some constructors change it
    passed = copy.deepcopy(other.state_dict())
    for group, own in zip(passed["param_groups"], saved["param_groups"], strict=True):
        group["backend"] = own["backend"]
    assert_equal_state_dicts(passed, saved)
    back.load_state_dict(passed)
    take_steps(optimizer, params, grads[3:])
    take_steps(back, middle, grads[3:])
    for a, b in zip(middle, params, strict=True):
        assert_same(a, b)


@pytest.mark.interpreted
@each
def test_a_run_goes_on_in_another_backend(name: str, backend: str) -> None:
    w0, grads = random(6, 5, seed=3), random_grads((6, 5), 5)
    p = w0.clone()
    first = make(name, [p], backend, **typical(name))
    take_steps(first, [p], [[g] for g in grads[:3]])
    q = p.clone()
    second = make(name, [q], another(backend), **least(name))
    q.copy_(p)
    second.load_state_dict(first.state_dict())
    take_steps(second, [q], [[g] for g in grads[3:]])
    assert_close_to_oracle(name, w0, grads, q, second.state[q], **typical(name))


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", ["AdamSRT", "AdamP", "SGDP"])
def test_state_moves_to_the_device_of_the_parameter(name: str, capturable: bool) -> None:
    """Others look at their weights when they are made, which meta has none of."""
    run = Run(name, one_group, "reference").take(2)
    run.optimizer.param_groups[0]["capturable"] = capturable
    on_meta = network().to("meta")
    optimizer = make(name, on_meta.parameters(), None)
    optimizer.load_state_dict(run.optimizer.state_dict())
    for p, q in zip(run.model.parameters(), on_meta.parameters(), strict=True):
        for key, value in run.optimizer.state[p].items():
            loaded = optimizer.state[q][key]
            assert (loaded.shape, loaded.dtype) == (value.shape, value.dtype)
            # torch leaves `step` where it was unless capturable; the first step takes it along.
            assert loaded.is_meta or (key == "step" and not capturable)


def assert_load_refused(
    run: Run, saved: dict[str, Any], error: type[Exception], match: str
) -> None:
    optimizer, before = run.optimizer, snapshot(run.optimizer)
    at_first = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=match):
        optimizer.load_state_dict(saved)
    assert_unchanged(optimizer, before)
    assert_equal_state_dicts(optimizer.state_dict(), at_first)
    twin = copy.deepcopy(run)
    run.take(3, 5).assert_weights(twin.take(3, 5).weights())


@each
def test_a_state_of_another_shape_is_refused_by_name(name: str, backend: str) -> None:
    run = Run(name, named, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    key = moment_of(name)
    # As if the checkpoint were of a model with other filters, under other names.
    saved["state"][3][key] = torch.zeros(3, 4, 5, 5)
    saved["param_groups"][0]["param_names"] = [f"other.{i}" for i in range(7)]
    match = (
        rf"state '{key}' of parameter '3.weight' \(3, 4, 2, 2\) has shape \(3, 4, 5, 5\) where "
        rf"\(3, 4, 2, 2\) is needed"
    )
    assert_load_refused(run, saved, RuntimeError, match)


BAD_STEPS = [-1, math.nan, math.inf, torch.tensor(-3.0), torch.tensor(math.nan)]


@pytest.mark.parametrize("step", BAD_STEPS, ids=str)
@pytest.mark.parametrize("name", COUNTING)
def test_a_step_that_counts_nothing_is_refused(name: str, step: Any, backend: str) -> None:
    run = Run(name, named, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    saved["state"][3]["step"] = step
    match = r"'step' of parameter '3.weight' .*is (-1|-3|nan|inf).*damaged"
    assert_load_refused(run, saved, RuntimeError, match)


@pytest.mark.parametrize("name", COUNTING)
def test_two_steps_for_one_parameter_are_refused(name: str, backend: str) -> None:
    run = Run(name, named, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    saved["state"][3]["step"] = torch.ones(2)
    match = r"'step' of parameter '3.weight' .*has shape \(2,\) where \(\) is needed"
    assert_load_refused(run, saved, RuntimeError, match)


@each
def test_a_state_of_another_optimizer_is_refused(name: str, backend: str) -> None:
    run = Run(name, named, backend).take(3)
    kind = "SGDMRT" if moment_of(name) == "exp_avg" else "AdamS"
    other = Run(kind, named, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    saved["state"] = copy.deepcopy(other.optimizer.state_dict())["state"]
    match = r"the state of parameter '0.weight' .*lacks \['.*another optimizer"
    assert_load_refused(run, saved, RuntimeError, match)


def test_a_checkpoint_of_torchs_adam_names_its_converter(backend: str) -> None:
    run, model = Run("AdamSRT", named, backend).take(3), network()
    adam = torch.optim.Adam(model.parameters())
    train(model, adam, range(3))
    assert_load_refused(run, adam.state_dict(), RuntimeError, "sphere_fused.from_adam")


BAD_GROUPS = [
    ({"lr": -1.0}, ValueError, "lr must"),
    ({"lr": torch.ones(2)}, ValueError, "lr must"),
    ({"weight_decay": math.nan}, ValueError, "weight_decay must"),
    ({"channel_dims": (7,)}, ValueError, "channel_dims=.*names a dim that parameter '0.weight'"),
    ({"channel_dims": "0"}, TypeError, "channel_dims must"),
    ({"channel_dims": None}, RuntimeError, r"exp_avg_sq.*\(4, 1, 1, 1\) where \(4, 2, 3, 3\)"),
    ({"betas": (0.9, 1.0)}, ValueError, "betas must"),
    ({"eps": -1.0}, ValueError, "eps must"),
]


@pytest.mark.parametrize(
    ("hyper", "error", "match"), BAD_GROUPS, ids=[str(b[0]) for b in BAD_GROUPS]
)
@pytest.mark.parametrize("name", ["AdamSRT", "AdamG"])
def test_hyperparameters_out_of_range_are_refused(
    name: str, hyper: dict[str, Any], error: type[Exception], match: str, backend: str
) -> None:
    run = Run(name, named, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    saved["param_groups"][0].update(hyper)
    assert_load_refused(run, saved, error, match)


@each
def test_other_numbers_of_groups_or_parameters_are_refused(name: str, backend: str) -> None:
    run = Run(name, several_groups, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    fewer = {**saved, "param_groups": saved["param_groups"][:-1]}
    assert_load_refused(run, fewer, ValueError, "different number of parameter groups")
    saved["param_groups"][0]["params"].pop()
    assert_load_refused(run, saved, ValueError, "doesn't match the size")


@pytest.mark.parametrize("name", [n for n in REPRESENTATIVES if "channel_dims" in DEFAULTS[n]])
def test_hyperparameters_that_a_checkpoint_lacks_stay(name: str, backend: str) -> None:
    """As a group has them, and not as the constructor does."""
    run = Run(name, several_groups, backend).take(3)
    saved = copy.deepcopy(run.optimizer.state_dict())
    for group in saved["param_groups"]:
        del group["channel_dims"], group["maximize"]
    run.optimizer.load_state_dict(saved)
    dims = [group["channel_dims"] for group in run.optimizer.param_groups]
    assert dims == [None, (0,), (), (0,)]
    assert [g["maximize"] for g in run.optimizer.param_groups] == [False, False, True, False]


def fresh(run: Run) -> None:
    pass


def half_way(run: Run) -> None:
    run.take(3)


def loaded(run: Run) -> None:
    run.take(3)
    run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))


def scheduled(run: Run) -> None:
    """A scheduler wraps the optimizer's step."""
    schedule = ExponentialLR(run.optimizer, 0.5)
    run.take(2)
    schedule.step()


def after_an_overflow(run: Run) -> None:
    run.take(2)
    run.optimizer.grad_scale, run.optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)
    run.take(2, 3)
    del run.optimizer.grad_scale, run.optimizer.found_inf


def copied(run: Run) -> Run:
    return copy.deepcopy(run)


def pickled(run: Run) -> Run:
    return pickle.loads(pickle.dumps(run))


@pytest.mark.parametrize("copy_of", [copied, pickled], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "state", [fresh, half_way, loaded, scheduled, after_an_overflow], ids=lambda f: f.__name__
)
@each
def test_copies_go_on_alike_and_alone(
    name: str, state: Callable[[Run], None], copy_of: Callable[[Run], Run], backend: str
) -> None:
    run = Run(name, several_groups, backend)
    state(run)
    twin = copy_of(run)
    before = run.weights()
    end = twin.take(3, 6).weights()
    run.assert_weights(before)
    run.take(3, 6).assert_weights(end)


def test_a_post_hook_finds_what_the_run_goes_on_from(backend: str) -> None:
    """And what it writes there counts."""
    w0, grads = random(6, 5, seed=1, dtype=torch.bfloat16), random_grads((6, 5), 2, torch.bfloat16)
    p = w0.clone()
    optimizer = make("AdamSRT", [p], backend)
    take_steps(optimizer, [p], [[g] for g in grads])
    seen = []

    def clear(o: Optimizer) -> None:
        seen.append(o.state[p]["exp_avg"].dtype)
        o.state[p]["exp_avg"].zero_()
        del o.state[p]["exp_avg_sq"]

    optimizer.register_load_state_dict_post_hook(clear)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [torch.float32]
    assert not optimizer.state[p]["exp_avg"].any()
    take_steps(optimizer, [p], [[grads[0]]])
    assert optimizer.state[p]["exp_avg_sq"].all()


def test_a_checkpoint_of_a_relative_is_refused(backend: str) -> None:
    """Whose state would fit."""
    params = [random(3, 4, seed=1)]
    saved = make("LAMB", params, backend).state_dict()
    with pytest.raises(ValueError, match="of another optimizer than AdamP: only one of them has"):
        make("AdamP", params, backend).load_state_dict(saved)
