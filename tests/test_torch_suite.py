"""What torch's own tests demand of every optimizer that is in its database.

torch.testing._internal.common_optimizers ships that database, but not the tests; CONTRIBUTING.md
lists those that do not apply.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import FIXED_RADIUS, known
from layouts import strided
from oracles import DEFAULTS
from oracles.tolerance import IDENTITY, assert_same, error
from stepping import assert_unchanged, snapshot
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._pytree import tree_leaves
from torch_infos import INFOS, WELCOME, common, their
from torch_runs import (
    SOME,
    SOME_INPUTS,
    as_numbers,
    assert_all_same,
    closure_of,
    each,
    each_config,
    every_input,
    half_way,
    ids,
    leaves,
    loss_of,
    made,
    train,
    weights,
)

ERRORS = [(info, e) for info in INFOS for e in info.optim_error_inputs_func("cpu", torch.float32)]

TENSORS = [
    *(
        pair
        for pair in SOME_INPUTS
        if any(isinstance(v, Tensor) for v in tree_leaves(pair[1].kwargs))
    ),
    # Apart, because not every torch's schedulers take one.
    *(
        (info, common.OptimizerInput(None, {"lr": torch.tensor([[0.01]])}, "2-D lr"))
        for info in SOME
    ),
]


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
    assert {i.desc for i in welcome} == (set(WELCOME) if "betas" in DEFAULTS[info.name] else set())
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


@every_input
def test_goes_in_the_right_direction_with_gaps(info: Any, given: Any) -> None:
    assert_right_direction(info, given, strided)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@every_input
def test_fused_matches_forloop(info: Any, given: Any, dtype: torch.dtype) -> None:
    runs = []
    for fused in (True, False):
        params = leaves(weights(dtype))
        optimizer = made(info, params, fused=fused, **given.kwargs)
        train(optimizer, params, steps=5)
        runs.append([*params, *(v for p in params for v in optimizer.state[p].values())])
    for one, other in zip(*runs, strict=True):
        assert error(one, other) < IDENTITY[dtype]


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
    optimizer = made(info, params, **{**given.kwargs, **known(info.name, weight_decay=0.0)})
    before = leaves(params)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, w in zip(params, before, strict=True):
        if info.name in FIXED_RADIUS:  # which divide by the norm once more
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
    train(made(info, (p for p in once)), once)
    train(made(info, listed), listed)
    named = dict(zip("wb", leaves(weights()), strict=True))
    train(made(info, iter(named.items())), list(named.values()))
    in_group = leaves(weights())
    train(made(info, [{"params": (p for p in in_group)}]), in_group)
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
    elif info.name in FIXED_RADIUS and given.kwargs.get("channel_dims", ()) is not None:
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
