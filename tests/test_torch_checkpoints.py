"""What torch's own tests demand of state dicts and copies of every optimizer in its database."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_runs import (
    assert_all_same,
    each,
    each_config,
    each_input,
    half_way,
    leaves,
    loaded,
    made,
    train,
)


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
        optimizer = made(info, names(params))
        train(optimizer, params)
    saved = copy.deepcopy(optimizer.state_dict())
    assert ("param_names" in saved["param_groups"][0]) == named_before
    twins = leaves(params)
    other = made(info, twins if named_before else names(twins))
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
