"""What torch's own tests demand of every optimizer that is in its database.

torch.testing._internal.common_optimizers ships that database, but not the tests; CONTRIBUTING.md
lists those that do not apply.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from conftest import skip_unless_available
from layouts import strided
from oracles.tolerance import IDENTITY, assert_same, error
from stepping import assert_unchanged, random, snapshot
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._pytree import tree_leaves, tree_map
from torch_infos import INFOS, WELCOME, common, their

INPUTS = [(info, i) for info in INFOS for i in info.optim_inputs_func("cpu")]
# The same with fused=False and with fused=True.
CONFIGS = [
    (info, i)
    for info in INFOS
    for i in common._get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float32, info)
]
ERRORS = [(info, e) for info in INFOS for e in info.optim_error_inputs_func("cpu", torch.float32)]

TENSORS = [
    *(pair for pair in INPUTS if any(isinstance(v, Tensor) for v in tree_leaves(pair[1].kwargs))),
    # Apart, because not every torch's schedulers take one.
    *(
        (info, common.OptimizerInput(None, {"lr": torch.tensor([[0.01]])}, "2-D lr"))
        for info in INFOS
    ),
]


def ids(pairs: list[tuple[Any, Any]]) -> list[str]:
    return [f"{info.name}-{getattr(i, 'optimizer_error_input', i).desc}" for info, i in pairs]


each = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
each_input = pytest.mark.parametrize(("info", "given"), INPUTS, ids=ids(INPUTS))
each_config = pytest.mark.parametrize(("info", "given"), CONFIGS, ids=ids(CONFIGS))


def made(info: Any, params: Any, **kwargs: Any) -> Optimizer:
    if kwargs.get("fused"):
        skip_unless_available("native")
    return info.optim_cls(params, **copy.deepcopy(kwargs))  # schedulers write into a tensor lr


def weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """A matrix and a bias to train."""
    return [random(10, 5, seed=1, dtype=dtype), random(10, seed=2, dtype=dtype)]


def leaves(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def loss_of(params: list[Tensor]) -> Tensor:
    weight, bias = params
    x = torch.nn.functional.normalize(random(5, seed=3, dtype=weight.dtype), dim=0)
    return (weight.mv(x) + bias).square().sum()


def closure_of(optimizer: Optimizer, params: list[Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(params)
        loss.backward()
        return loss

    return closure


def train(optimizer: Optimizer, params: list[Tensor], steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.step(closure_of(optimizer, params))


def half_way(info: Any, **kwargs: Any) -> tuple[Optimizer, list[Tensor]]:
    params = leaves(weights())
    optimizer = made(info, params, **kwargs)
    train(optimizer, params)
    return optimizer, params


def loaded(
    info: Any, state_dict: dict[str, Any], weights: list[Tensor], **kwargs: Any
) -> tuple[Optimizer, list[Tensor]]:
    """A new optimizer of copies of `weights` that goes on from `state_dict`."""
    params = leaves(weights)
    optimizer = made(info, params, **kwargs)
    optimizer.load_state_dict(state_dict)
    for p, w in zip(params, weights, strict=True):
        p.data.copy_(w)  # AdamG's constructor has normalized it
    return optimizer, params


def as_numbers(kwargs: dict[str, Any]) -> dict[str, Any]:
    return tree_map(lambda v: v.item() if isinstance(v, Tensor) else v, kwargs)


def assert_all_same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("info", "bad"), ERRORS, ids=ids(ERRORS))
def test_error_inputs(info: Any, bad: Any) -> None:
    given = bad.optimizer_error_input
    params = leaves(weights()) if given.params is None else given.params
    on_construction = bad.error_on == common.OptimizerErrorEnum.CONSTRUCTION_ERROR
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if on_construction:
            with pytest.raises(bad.error_type, match=bad.error_regex):
                made(info, params, **given.kwargs)
        else:
            optimizer = made(info, params, **given.kwargs)
            with pytest.raises(bad.error_type, match=bad.error_regex):
                optimizer.step()


@each
def test_what_torch_alone_refuses(info: Any) -> None:
    theirs = their("optim_error_inputs_func", info.name)("cpu", torch.float32)
    given = [e.optimizer_error_input for e in theirs]
    welcome = [i for i in given if i.desc in WELCOME]
    assert {i.desc for i in welcome} == (set() if info.name == "SGDMRT" else set(WELCOME))
    for i in welcome:
        _, params = half_way(info, **i.kwargs)
        assert_all_same(params, half_way(info, **as_numbers(i.kwargs))[1])


def assert_right_direction(info: Any, given: Any, layout: Callable[[Tensor], Tensor]) -> None:
    for constructors in info.scheduler_inputs:
        params = [layout(w).requires_grad_() for w in weights()]
        optimizer = made(info, params, **given.kwargs)
        schedulers = [constructor(optimizer) for constructor in constructors]
        closure = closure_of(optimizer, params)
        first = closure().item()
        for _ in range(20):
            loss = optimizer.step(closure)
            for scheduler in schedulers:
                scheduler.step(*[loss.item()] if isinstance(scheduler, ReduceLROnPlateau) else [])
        last = closure().item()
        assert last > first if given.kwargs.get("maximize") else last < first


@each_config
def test_goes_in_the_right_direction(info: Any, given: Any) -> None:
    assert_right_direction(info, given, torch.clone)


@each_input
def test_goes_in_the_right_direction_with_gaps(info: Any, given: Any) -> None:
    assert_right_direction(info, given, strided)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_input
def test_fused_matches_forloop(info: Any, given: Any, dtype: torch.dtype) -> None:
    runs = []
    for fused in (True, False):
        params = leaves(weights(dtype))
        optimizer = made(info, params, fused=fused, **given.kwargs)
        train(optimizer, params, steps=5)
        runs.append([*params, *(v for p in params for v in optimizer.state[p].values())])
    for one, other in zip(*runs, strict=True):
        assert error(one, other) < IDENTITY[dtype]


@each_config
def test_state_dict_deterministic(info: Any, given: Any) -> None:
    """A run that goes on from a deep copy does the same, and leaves the copy alone."""
    optimizer, params = half_way(info, **given.kwargs)
    saved = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    other, twins = loaded(info, copy.deepcopy(saved), params, **given.kwargs)
    for _ in range(3):
        train(optimizer, params, steps=1)
        train(other, twins, steps=1)
        assert_all_same(twins, params)
    assert_all_same(saved, kept)
    assert_all_same(other.state_dict(), optimizer.state_dict())


@each_config
def test_save_load_equality_with_weights_only(info: Any, given: Any) -> None:
    optimizer, _ = half_way(info, **given.kwargs)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    assert_all_same(torch.load(buffer, weights_only=True), optimizer.state_dict())


@each_input
def test_can_load_older_state_dict(info: Any, given: Any) -> None:
    """One without the arguments that came later."""
    for flag in info.not_og_supported_flags:
        optimizer, params = half_way(info, **given.kwargs)
        saved = copy.deepcopy(optimizer.state_dict())
        for group in saved["param_groups"]:
            del group[flag]
        optimizer.load_state_dict(saved)
        assert flag in optimizer.param_groups[0]
        train(optimizer, params)


@pytest.mark.parametrize("named_before", [False, True])
@each
def test_can_load_from_to_named_state_dict(info: Any, named_before: bool) -> None:
    def names(params: list[Tensor]) -> list[tuple[str, Tensor]]:
        return list(zip(("weight", "bias"), params, strict=True))

    optimizer, params = half_way(info)
    if named_before:
        optimizer = info.optim_cls(names(params))
        train(optimizer, params)
    saved = copy.deepcopy(optimizer.state_dict())
    assert ("param_names" in saved["param_groups"][0]) == named_before
    twins = leaves(params)
    other = info.optim_cls(twins if named_before else names(twins))
    for p, w in zip(twins, params, strict=True):
        p.data.copy_(w)
    other.load_state_dict(saved)
    train(optimizer, params)
    train(other, twins)
    assert_all_same(twins, params)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@each
def test_load_into_another_dtype(info: Any, dtype: torch.dtype) -> None:
    """Moments stay as wide as they were saved, and `step` float32."""
    optimizer, params = half_way(info)
    saved = optimizer.state_dict()
    other, twins = loaded(info, saved, [p.detach().to(dtype) for p in params])
    for p, twin in zip(params, twins, strict=True):
        assert_all_same(other.state[twin], optimizer.state[p])
    train(other, twins)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for twin in twins:
        for key, value in other.state[twin].items():
            assert value.dtype == (torch.float32 if key == "step" else wide), key


@each_config
def test_deepcopy_copies_all_public_attrs(info: Any, given: Any) -> None:
    optimizer, _ = half_way(info, **given.kwargs)
    twin = copy.deepcopy(optimizer)
    assert twin.defaults.keys() == optimizer.defaults.keys()
    public = [name for name in vars(optimizer) if not name.startswith("_")]
    assert public == [name for name in vars(twin) if not name.startswith("_")]


@each
def test_state_dict_hooks(info: Any) -> None:
    optimizer, _ = half_way(info)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append(("pre", o)))
    optimizer.register_state_dict_post_hook(lambda o, saved: {**saved, "note": 1})
    optimizer.register_state_dict_post_hook(lambda o, saved: saved.update(first=1), prepend=True)
    saved = optimizer.state_dict()
    assert calls == [("pre", optimizer)]
    assert list(saved) == ["state", "param_groups", "first", "note"]
    optimizer.load_state_dict(saved)


@each
def test_load_state_dict_hooks(info: Any) -> None:
    """A pre-hook may hand on another state dict; one that is prepended comes first."""
    optimizer, _ = half_way(info)
    calls = []

    def doubled_lr(o: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
        calls.append("double")
        groups = [{**group, "lr": 2 * group["lr"]} for group in saved["param_groups"]]
        return {**saved, "param_groups": groups}

    def lr_of_8(o: Optimizer, saved: dict[str, Any]) -> None:
        calls.append("8")
        saved["param_groups"] = [{**group, "lr": 8.0} for group in saved["param_groups"]]

    optimizer.register_load_state_dict_pre_hook(doubled_lr)
    optimizer.register_load_state_dict_pre_hook(lr_of_8, prepend=True)
    optimizer.register_load_state_dict_post_hook(
        lambda o: calls.append(f"loaded {o.param_groups[0]['lr']}")
    )
    saved = optimizer.state_dict()
    before = saved["param_groups"][0]["lr"]
    optimizer.load_state_dict(saved)
    assert calls == ["8", "double", "loaded 16.0"]
    assert saved["param_groups"][0]["lr"] == before


@each
def test_step_hooks(info: Any) -> None:
    """Of all optimizers and of one, in torch's order; a pre-hook may replace the arguments."""
    optimizer, _ = half_way(info)
    calls: list[str] = []

    def replaced_closure(o: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any]:
        calls.append("pre")
        return (o, lambda: "another loss"), {}

    handles = [
        optimizer.register_step_pre_hook(replaced_closure),
        optimizer.register_step_post_hook(lambda *_: calls.append("post")),
        register_optimizer_step_pre_hook(lambda *_: calls.append("all: pre")),
        register_optimizer_step_post_hook(lambda *_: calls.append("all: post")),
    ]
    assert optimizer.step(lambda: "loss") == "another loss"
    for handle in handles:
        handle.remove()
    assert calls == ["all: pre", "pre", "post", "all: post"]
    optimizer.step()
    assert len(calls) == 4


@each_config
def test_step_is_noop_for_zero_grads(info: Any, given: Any) -> None:
    params = leaves(weights())
    optimizer = made(info, params, **{**given.kwargs, "weight_decay": 0.0})
    before = leaves(params)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, w in zip(params, before, strict=True):
        if info.name == "AdamG":  # which divides by the norm once more
            assert error(p, w) < IDENTITY[torch.float32]
        else:
            assert_same(p.detach(), w.detach())


@each_config
def test_step_is_noop_when_params_have_no_grad(info: Any, given: Any) -> None:
    optimizer, params = half_way(info, **given.kwargs)
    optimizer.zero_grad()
    before = snapshot(optimizer)
    optimizer.step()
    assert_unchanged(optimizer, before)
    fresh = made(info, leaves(params), **given.kwargs)
    fresh.step()
    assert not fresh.state


@each_config
def test_mixed_dtypes(info: Any, given: Any) -> None:
    """Parameters of all dtypes in one optimizer step as each by itself."""
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
    together = [leaves(weights(dtype)) for dtype in dtypes]
    alone = copy.deepcopy(together)
    mixed = made(info, [p for pair in together for p in pair], **given.kwargs)
    for _ in range(3):
        mixed.zero_grad()
        for pair in together:
            loss_of(pair).backward()
        mixed.step()
    for pair in alone:
        train(made(info, pair, **given.kwargs), pair)
    assert_all_same(together, alone)


@pytest.mark.parametrize(("info", "given"), TENSORS, ids=ids(TENSORS))
def test_tensor_lr_and_betas(info: Any, given: Any) -> None:
    """One-element tensors of any shape step as the numbers in them do."""
    assert_all_same(
        half_way(info, **given.kwargs)[1], half_way(info, **as_numbers(given.kwargs))[1]
    )


@each
def test_params_from_a_generator(info: Any) -> None:
    once, listed = leaves(weights()), leaves(weights())
    train(info.optim_cls(p for p in once), once)
    train(info.optim_cls(listed), listed)
    named = dict(zip("wb", leaves(weights()), strict=True))
    train(info.optim_cls(iter(named.items())), list(named.values()))
    in_group = leaves(weights())
    train(info.optim_cls([{"params": (p for p in in_group)}]), in_group)
    for params in (once, list(named.values()), in_group):
        assert_all_same(params, listed)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("default", [torch.float64, torch.float16], ids=str)
@each
def test_the_default_dtype_is_irrelevant(info: Any, default: torch.dtype, fused: bool) -> None:
    _, expected = half_way(info, fused=fused)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        optimizer, params = half_way(info, fused=fused)
    finally:
        torch.set_default_dtype(before)
    assert_all_same(params, expected)
    assert {v.dtype for p in params for v in optimizer.state[p].values()} <= {torch.float32}


@each_config
def test_params_on_meta(info: Any, given: Any) -> None:
    """The reference steps them, as torch's loops do; what is fused refuses them."""
    params = [w.to("meta").requires_grad_() for w in weights()]
    if given.kwargs["fused"]:
        with pytest.raises(RuntimeError, match="native: it has no kernels for meta tensors"):
            made(info, params, **given.kwargs)
    elif info.name == "AdamG" and given.kwargs.get("channel_dims", ()) is not None:
        with pytest.raises(RuntimeError, match="meta device, where there is nothing to normalize"):
            made(info, params, **given.kwargs)
    else:
        optimizer = made(info, params, **given.kwargs)
        for _ in range(2):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()
        state = [v for p in params for v in optimizer.state[p].values()]
        assert all(v.is_meta for v in state)
