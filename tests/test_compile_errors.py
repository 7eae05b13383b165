"""Compiled steps: errors, copies, and what torch asks of the operator."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compiled import Twins, each_compiler
from oracles.tolerance import assert_same
from stepping import assert_unchanged, make, random, run, snapshot
from torch import Tensor, library
from torch.optim import Optimizer

from sphere_fused import functional

pytestmark = pytest.mark.usefixtures("compiled_afresh")


def overlapping(params: list[Tensor], optimizer: Optimizer) -> None:
    params[1].data = params[2].detach().flatten()[3:10]


def scaled_by_zero(params: list[Tensor], optimizer: Any) -> None:
    optimizer.grad_scale = torch.tensor(0.0)


def of_another_shape(params: list[Tensor], optimizer: Optimizer) -> None:
    optimizer.state[params[2]]["exp_avg"] = torch.zeros(2, 2)


def sparse(params: list[Tensor], optimizer: Optimizer) -> None:
    params[2].grad = params[2].grad.to_sparse()


@pytest.mark.parametrize(("compiler", "steps_before"), [("eager", 0), ("aot_eager", 1)])
@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (overlapping, RuntimeError, "parameter 0 .* and parameter 1 .* overlap in memory"),
        (scaled_by_zero, ValueError, "grad_scale must be above 0"),
        (of_another_shape, RuntimeError, r"'exp_avg' of parameter 0 of group 1 .* \(2, 2\)"),
        (sparse, RuntimeError, "gradient of .* is sparse"),
    ],
)
def test_errors_are_ours_and_change_nothing(
    spoil: Callable[..., None],
    error: type[Exception],
    match: str,
    steps_before: int,
    native: str,
    compiler: str,
) -> None:
    twins = Twins("AdamSRT", compiler, fullgraph=spoil is not sparse)
    twins.take_steps(*range(steps_before))
    twins.set_grads(1)
    spoil(twins.params[0], twins.optimizers[0])
    before = snapshot(twins.optimizers[0])
    for _ in range(2):
        if spoil is scaled_by_zero:  # which an error takes away
            spoil(twins.params[0], twins.optimizers[0])
        with pytest.raises(error, match=match):
            twins.step()
        assert_unchanged(twins.optimizers[0], before)


@each_compiler
def test_a_step_goes_on_after_an_error(native: str, compiler: str) -> None:
    """In the graph that was traced when there was no state yet."""
    twins = Twins("AdamSRT", compiler)
    twins.set_grads(0)
    twins.optimizers[0].grad_scale = torch.tensor(-1.0)
    twins.optimizers[0].state[twins.params[0][0]]["exp_avg"] = torch.zeros(2)
    with pytest.raises(ValueError, match="grad_scale"):
        twins.step()
    assert not hasattr(twins.optimizers[0], "grad_scale")
    twins.optimizers[0].state.clear()
    twins.take_steps(0, 1, 2)


def test_many_optimizers(native: str) -> None:
    twins = [Twins(name, "aot_eager") for name in ("AdamS", "AdamG", "AdamG")]
    for t in range(3):
        for each_twins in twins:
            each_twins.take_steps(t)
    assert [t.compiled for t in twins] == [1] * len(twins)


def test_copies_are_independent(native: str) -> None:
    for copied in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
        twins = Twins("AdamSRT", "aot_eager")
        twins.take_steps(0, 1)
        before = snapshot(twins.optimizers[0])
        other = copied(twins.optimizers[0])
        for t in (2, 3):
            for group in other.param_groups:
                for p in group["params"]:
                    p.grad = random(*p.shape, seed=t)
            torch.compile(other.step, backend="aot_eager", fullgraph=True)()
        assert all(int(s["step"]) == 4 for s in other.state.values())
        assert_unchanged(twins.optimizers[0], before)
        twins.take_steps(2, 3)


def test_a_compiled_optimizer_is_let_go(native: str) -> None:
    """Another may be born at its address."""
    w0 = random(6, 5, seed=1)
    for t in range(3):
        p, g = w0.clone().requires_grad_(), random(6, 5, seed=10 + t)
        optimizer = make("AdamSRT", [p], lr=0.1 * (1 + t))
        step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
        p.grad = g
        step()
        assert_same(p.detach(), run("AdamSRT", w0, [g], lr=0.1 * (1 + t))[0])
        number = id(optimizer)
        gone = [weakref.ref(optimizer), weakref.ref(p), weakref.ref(optimizer.state[p]["step"])]
        del optimizer, step, p
        gc.collect()
        assert [r() for r in gone] == [None] * 3
        assert number not in functional.steppers


def test_the_operator_is_what_torch_asks_of_one(native: str) -> None:
    twins = Twins("AdamSRT", "eager")
    twins.take_steps(0)
    twins.set_grads(1)
    which = [0, 2]
    optimizer = twins.optimizers[0]
    arguments = (*optimizer._operands.tensors(which), which, id(optimizer), True)
    library.opcheck(torch.ops.sphere_fused.step_, arguments)
    detached = [[t.detach().clone() for t in tensors] for tensors in arguments[:3]]
    library.opcheck(torch.ops.sphere_fused.step_, (*detached, which, id(optimizer), True))
    if hasattr(torch.Tag, "cudagraph_unsafe"):
        assert torch.Tag.cudagraph_unsafe in torch.ops.sphere_fused.step_.default.tags


def test_a_step_that_is_not_compiled_calls_no_operator(
    native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(functional, "call")
    p = random(6, 5, seed=1)
    p.grad = random(6, 5, seed=2)
    make("AdamSRT", [p]).step()


def test_the_compiler_is_not_imported_before_it_compiles() -> None:
    """It takes seconds."""
    code = "import sphere_fused, sys; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@each_compiler
def test_gradients_are_enabled_again_after_an_error(native: str, compiler: str) -> None:
    twins = Twins("AdamSRT", compiler)
    twins.set_grads(0)
    scaled_by_zero(twins.params[0], twins.optimizers[0])
    with pytest.raises(ValueError, match="grad_scale"):
        twins.step()
    assert torch.is_grad_enabled()
    scaled_by_zero(twins.params[0], twins.optimizers[0])
    with torch.no_grad():
        with pytest.raises(ValueError, match="grad_scale"):
            twins.step()
        assert not torch.is_grad_enabled()
