"""State and parameters that are swapped, moved, saved and loaded between steps."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from cases import FIXED_RADIUS, REPRESENTATIVES, counts_steps, least, moment_of, typical
from layouts import permuted, sliced
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import assert_unchanged, make, random, random_grads, run, snapshot, take_steps
from torch import Tensor
from torch.optim import Optimizer

SHAPES = [(6, 5), (4, 3, 3, 3), (7,)]
STEPS = 6
each = pytest.mark.parametrize("name", REPRESENTATIVES)


def setting(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[list[Tensor]]]:
    grads = [random_grads(shape, STEPS, dtype, seed=100 * i) for i, shape in enumerate(SHAPES)]
    weights = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(SHAPES)]
    return weights, [list(of_step) for of_step in zip(*grads, strict=True)]


def undisturbed(name: str, backend: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    weights, grads = setting(dtype)
    params = [w.clone() for w in weights]
    take_steps(make(name, params, backend, **typical(name)), params, grads)
    return params


def assert_ends_alike(params: list[Tensor], expected: list[Tensor]) -> None:
    for p, e in zip(params, expected, strict=True):
        assert_same(p.detach(), e.detach())


def half_way(
    name: str, backend: str, dtype: torch.dtype = torch.float32
) -> tuple[Optimizer, list[Tensor], list[list[Tensor]]]:
    weights, grads = setting(dtype)
    params = [w.clone().requires_grad_() for w in weights]
    optimizer = make(name, params, backend, **typical(name))
    take_steps(optimizer, params, grads[:3])
    return optimizer, params, grads[3:]


def reloaded_from_bytes(state_dict: dict) -> dict:
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


# Each takes an optimizer half way and its parameters, and returns those to go on with.
Disturbance = Callable[[Optimizer, list[Tensor]], tuple[Optimizer, list[Tensor]]]


def swap_data(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    for p in params:
        p.data = p.detach().clone()
    return optimizer, params


def swap_address(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    """To an odd one, inside of something larger."""
    for p in params:
        p.data = sliced(p.detach())
    return optimizer, params


def replace_state(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    for p in params:
        for key, value in optimizer.state[p].items():
            optimizer.state[p][key] = value.clone()
    return optimizer, params


def replace_state_dicts(
    optimizer: Optimizer, params: list[Tensor]
) -> tuple[Optimizer, list[Tensor]]:
    for p in params:
        optimizer.state[p] = {k: v.clone() for k, v in optimizer.state[p].items()}
    return optimizer, params


def replace_state_strides(
    optimizer: Optimizer, params: list[Tensor]
) -> tuple[Optimizer, list[Tensor]]:
    for key in ("exp_avg", "momentum_buffer"):
        state = optimizer.state[params[0]]
        if key in state:
            state[key] = permuted(1, 0)(state[key])
    return optimizer, params


def move_state_data(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    for p in params:
        for value in optimizer.state[p].values():
            value.data = value.detach().clone()
    return optimizer, params


def step_as_a_number(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    """As old checkpoints have it."""
    for p in params:
        if "step" in optimizer.state[p]:
            optimizer.state[p]["step"] = int(optimizer.state[p]["step"])
    return optimizer, params


def deep_copy(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    return copy.deepcopy((optimizer, params))


def pickled(optimizer: Optimizer, params: list[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    return pickle.loads(pickle.dumps((optimizer, params)))


def state_dict_into_new(
    optimizer: Optimizer, params: list[Tensor]
) -> tuple[Optimizer, list[Tensor]]:
    saved = reloaded_from_bytes(optimizer.state_dict())
    others = [p.detach().clone() for p in params]
    backend = optimizer.param_groups[0]["backend"]
    # Other hyperparameters than those saved, which loading must replace.
    name = type(optimizer).__name__
    new = make(name, others, backend, **{**least(name), "lr": 0.5})
    # Some constructors change weights: put back what the checkpoint of the model holds.
    for p, other in zip(params, others, strict=True):
        other.copy_(p.detach())
    new.load_state_dict(saved)
    return new, others


def state_dict_into_itself(
    optimizer: Optimizer, params: list[Tensor]
) -> tuple[Optimizer, list[Tensor]]:
    saved, weights = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in params]
    take_steps(optimizer, params, [setting(params[0].dtype)[1][0]])
    for p, w in zip(params, weights, strict=True):
        p.data.copy_(w)
    optimizer.load_state_dict(saved)
    return optimizer, params


DISTURBANCES = [
    swap_data,
    swap_address,
    replace_state,
    replace_state_dicts,
    replace_state_strides,
    move_state_data,
    step_as_a_number,
    deep_copy,
    pickled,
    state_dict_into_new,
    state_dict_into_itself,
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda f: f.__name__)
@each
def test_the_run_goes_on_bitwise(
    name: str, disturb: Disturbance, dtype: torch.dtype, backend: str
) -> None:
    optimizer, params, rest = half_way(name, backend, dtype)
    optimizer, params = disturb(optimizer, params)
    take_steps(optimizer, params, rest)
    assert_ends_alike(params, undisturbed(name, backend, dtype))
    if counts_steps(name):
        assert all(float(optimizer.state[p]["step"]) == STEPS for p in params)


@pytest.mark.interpreted
@each
def test_a_parameter_may_change_its_layout(name: str, backend: str) -> None:
    """Sums are taken in another order then, so not to the bit."""
    weights, grads = setting()
    optimizer, params, rest = half_way(name, backend)
    params[0].data = permuted(1, 0)(params[0].detach())
    params[1].data = permuted(0, 2, 3, 1)(params[1].detach())
    take_steps(optimizer, params, rest)
    for i, p in enumerate(params):
        of_param = [g[i] for g in grads]
        state = optimizer.state[p]
        assert_close_to_oracle(name, weights[i], of_param, p.detach(), state, **typical(name))


@each
def test_deep_copies_are_independent(name: str, backend: str) -> None:
    optimizer, params, rest = half_way(name, backend)
    twin, twins = deep_copy(optimizer, params)
    before = snapshot(optimizer)
    take_steps(twin, twins, rest)
    for p, w in zip(params, before["params"], strict=True):
        assert_same(p.detach(), w)
    take_steps(optimizer, params, rest)
    assert_ends_alike(params, twins)


@pytest.mark.interpreted
@each
def test_state_can_be_cleared_to_start_afresh(name: str, backend: str) -> None:
    optimizer, params, rest = half_way(name, backend)
    weights = [p.detach().clone() for p in params]
    optimizer.state.clear()
    take_steps(optimizer, params, rest)
    fresh = [w.clone() for w in weights]
    take_steps(make(name, fresh, backend, **typical(name)), fresh, rest)
    if name not in FIXED_RADIUS:  # whose constructors round the weights once more
        assert_ends_alike(params, fresh)
    else:
        assert all(float(optimizer.state[p]["step"]) == len(rest) for p in params)


@pytest.mark.interpreted
@each
def test_values_written_into_state_count(name: str, backend: str) -> None:
    """State is the user's: no copy is kept elsewhere."""
    optimizer, params, rest = half_way(name, backend)
    key = moment_of(name)
    optimizer.state[params[0]][key].zero_()
    take_steps(optimizer, params, rest[:1])
    first, others = params[0], params[1:]
    expected = half_way(name, backend)
    take_steps(expected[0], expected[1], rest[:1])
    assert float((first - expected[1][0]).detach().norm()) > 1e-3
    assert_ends_alike(others, expected[1][1:])


@each
def test_low_precision_parameters_keep_wide_state_through_a_checkpoint(
    name: str, backend: str
) -> None:
    optimizer, params, _ = half_way(name, backend, torch.bfloat16)
    new, others = state_dict_into_new(optimizer, params)
    for p, other in zip(params, others, strict=True):
        for key, value in optimizer.state[p].items():
            loaded = new.state[other][key]
            assert loaded.dtype == torch.float32
            assert_same(loaded, value)
            assert loaded.data_ptr() != value.data_ptr(), key


@each
def test_a_checkpoint_does_not_choose_how_steps_are_taken(name: str) -> None:
    saved = make(name, [random(3, 4, seed=1)], "reference", **least(name)).state_dict()
    new = make(name, [random(3, 4, seed=1)], None, capturable=True, **least(name))
    new.load_state_dict(saved)
    assert new.param_groups[0]["backend"] is None
    assert new.param_groups[0]["capturable"] is True


@each
def test_a_checkpoint_without_newer_arguments_loads(name: str, backend: str) -> None:
    optimizer, params, rest = half_way(name, backend)
    saved = copy.deepcopy(optimizer.state_dict())
    for group in saved["param_groups"]:
        for option in ("capturable", "foreach", "fused", "backend"):
            group.pop(option, None)
    optimizer.load_state_dict(saved)
    take_steps(optimizer, params, rest)
    assert_ends_alike(params, undisturbed(name, backend))


@each
def test_a_loaded_state_of_the_wrong_shape_is_refused(name: str, backend: str) -> None:
    optimizer, params, rest = half_way(name, backend)
    saved = copy.deepcopy(optimizer.state_dict())
    key = moment_of(name)
    saved["state"][2][key] = torch.zeros(8)
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=f"state '{key}' .*shape \\(8,\\)"):
        optimizer.load_state_dict(saved)
    assert_unchanged(optimizer, before)
    take_steps(optimizer, params, rest)
    assert_ends_alike(params, undisturbed(name, backend))


@pytest.mark.parametrize(
    ("name", "channel_dims", "key"),
    [
        ("AdamSRT", None, "exp_avg_sq"),
        ("AdamG", None, "exp_avg_sq"),
        ("RiemannianAdam", (), "exp_avg_sq"),
        ("RotationalAdamW", (), "update_norm_sq"),
        ("NormAdamW", (), "radius"),
    ],
)
def test_other_channel_dims_in_mid_training_are_refused(
    name: str, channel_dims: tuple[int, ...] | None, key: str, backend: str
) -> None:
    optimizer, params, rest = half_way(name, backend)
    before = snapshot(optimizer)
    optimizer.param_groups[0]["channel_dims"] = channel_dims
    with pytest.raises(RuntimeError, match=rf"'{key}'.*shape"):
        optimizer.step()
    assert_unchanged(optimizer, before)
    optimizer.param_groups[0]["channel_dims"] = (0,)
    take_steps(optimizer, params, rest)
    assert_ends_alike(params, undisturbed(name, backend))


@each
def test_state_set_by_hand_of_the_wrong_shape_is_refused(name: str, backend: str) -> None:
    optimizer, params, _ = half_way(name, backend)
    key = moment_of(name)
    optimizer.state[params[-1]][key] = torch.zeros(9)
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=f"state '{key}' .*shape \\(9,\\)"):
        optimizer.step()
    assert_unchanged(optimizer, before)


def test_sgdmrt_without_momentum_keeps_no_state(backend: str) -> None:
    _, state = run("SGDMRT", random(4, 5, seed=1), random_grads((4, 5), 2), backend)
    assert not state


@pytest.mark.interpreted
def test_sgdmrt_momentum_may_be_switched_on(backend: str) -> None:
    w0, grads = random(4, 5, seed=2), random_grads((4, 5), 4)
    p = w0.clone()
    optimizer = make("SGDMRT", [p], backend, lr=0.1)
    take_steps(optimizer, [p], [[g] for g in grads[:2]])
    optimizer.param_groups[0]["momentum"] = 0.9
    middle = p.clone()
    take_steps(optimizer, [p], [[g] for g in grads[2:]])
    expected, state = run("SGDMRT", middle, grads[2:], backend, lr=0.1, momentum=0.9)
    assert_same(p, expected)
    assert_same(optimizer.state[p]["momentum_buffer"], state["momentum_buffer"])
