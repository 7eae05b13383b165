"""torch.compile(optimizer.step): the same bits as the step that is not compiled."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES
from compiled import SHAPES, Twins, each_compiler, grads_of
from stepping import assert_unchanged, random, snapshot
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR

pytestmark = pytest.mark.usefixtures("compiled_afresh")
each = pytest.mark.parametrize("name", REPRESENTATIVES)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
@each
def test_the_same_bits_from_the_first_step_on(name: str, native: str, compiler: str) -> None:
    """In one graph, which is never compiled again."""
    twins = Twins(name, compiler)
    for t in range(4):
        twins.take_steps(t)
        twins.both(lambda o: o.zero_grad())
    assert twins.compiled == 1


@pytest.mark.interpreted
@pytest.mark.parametrize("backend", ["triton"], indirect=True)
def test_triton(backend: str) -> None:
    twins = Twins("AdamSRT", "aot_eager", backends=(backend, backend))
    twins.take_steps(0, 1, 2)


@each_compiler
def test_schedules(native: str, compiler: str) -> None:
    """Also of the betas. Made before the step is compiled they wrap it in what torch skips."""
    twins = Twins("AdamSRT", compiler, fullgraph=False)
    schedules = [[ExponentialLR(o, 0.5), OneCycleLR(o, 0.1, 9)] for o in twins.optimizers]
    for t in range(4):
        twins.take_steps(t)
        for schedule in itertools.chain(*schedules):
            schedule.step()
    assert twins.compiled == 1


@each_compiler
def test_compiled_and_other_steps_in_turn(native: str, compiler: str) -> None:
    twins = Twins("AdamSRT", compiler)
    for t in range(6):
        if t in (0, 3):
            twins.set_grads(t)
            twins.both(lambda o: o.step())
        else:
            twins.take_steps(t)
    assert twins.compiled == 1


@each_compiler
def test_hyperparameters_are_those_of_the_moment(native: str, compiler: str) -> None:
    def change(optimizer: Optimizer) -> None:
        first, second = optimizer.param_groups
        first["betas"], first["eps"], first["weight_decay"] = (0.5, 0.6), 1e-3, 0.3
        second["maximize"], second["decoupled_weight_decay"] = True, True
        first["lr"].fill_(0.125)

    twins = Twins("AdamSRT", compiler, lr=torch.tensor(0.5))
    twins.take_steps(0, 1)
    twins.both(change)
    twins.take_steps(2, 3)
    assert twins.compiled == 1


@each_compiler
def test_momentum_may_be_switched_on(native: str, compiler: str) -> None:
    twins = Twins("SGDMRT", compiler, momentum=0.0)
    twins.take_steps(0, 1)
    for group in (g for o in twins.optimizers for g in o.param_groups):
        group["momentum"] = 0.9
    twins.take_steps(2, 3, 4)
    assert twins.compiled == 2


@each_compiler
def test_gradients_that_come_and_go(native: str, compiler: str) -> None:
    """A graph for each set of parameters that have one, and one more when state is new."""
    twins = Twins("AdamSRT", compiler)
    sets = [(2,), (), (0,)]
    for t in range(6):
        twins.take_steps(t, missing=sets[t % 3])
    compiled = twins.compiled
    assert compiled <= 4
    for t in range(6, 9):
        twins.take_steps(t, missing=sets[t % 3])
    assert twins.compiled == compiled


@each_compiler
def test_gradients_that_the_graph_sets(native: str, compiler: str) -> None:
    """Parameters have other ones, or none, while the operator runs."""

    def without_one(params: list[Tensor], optimizer: Optimizer, t: Tensor) -> None:
        params[1].grad = None
        optimizer.step()

    def twice(params: list[Tensor], optimizer: Optimizer, t: Tensor) -> None:
        for p in params:
            p.grad = t * p.detach().square()
        optimizer.step()
        without_one(params, optimizer, t)

    twins = Twins("AdamSRT", compiler)
    for iteration in (twice, twice, without_one):
        compiled = torch.compile(iteration, backend=compiler, fullgraph=True)
        t = torch.tensor(-3.0)
        compiled(twins.params[0], twins.optimizers[0], t)
        iteration(twins.params[1], twins.optimizers[1], t)
        twins.assert_same()
        twins.set_grads(1)


def test_nothing_to_step(native: str) -> None:
    twins = Twins("AdamSRT", "aot_eager")
    twins.take_steps(0, missing=(0, 1, 2))
    assert not twins.optimizers[0].state
    twins.take_steps(1)


@each_compiler
def test_a_group_that_is_added(native: str, compiler: str) -> None:
    twins = Twins("AdamSRT", compiler)
    twins.take_steps(0, 1)
    for params, optimizer in zip(twins.params, twins.optimizers, strict=True):
        params.append(random(3, 4, seed=9).requires_grad_())
        optimizer.add_param_group({"params": params[-1:], "lr": 0.25})
    twins.take_steps(2, 3, 4)
    assert twins.compiled == 2


def load_its_own(optimizer: Optimizer) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def swap_data(optimizer: Optimizer) -> None:
    for p in optimizer.state:
        p.data = p.detach().clone()


def replace_tensors(optimizer: Optimizer) -> None:
    for state in optimizer.state.values():
        state.update({key: value.clone() for key, value in state.items()})


def replace_dicts(optimizer: Optimizer) -> None:
    for p, state in optimizer.state.items():
        optimizer.state[p] = dict(state)


def clear(optimizer: Optimizer) -> None:
    optimizer.state.clear()


@each_compiler
@pytest.mark.parametrize(
    "disturb", [load_its_own, swap_data, replace_tensors, replace_dicts, clear]
)
def test_state_and_storage_that_change(
    disturb: Callable[[Optimizer], None], native: str, compiler: str
) -> None:
    twins = Twins("AdamSRT", compiler)
    twins.take_steps(0, 1)
    twins.both(disturb)
    twins.take_steps(2, 3)
    assert twins.compiled <= 2


@each_compiler
def test_bfloat16(native: str, compiler: str) -> None:
    twins = Twins("AdamSRT", compiler)
    for p in itertools.chain(*twins.params):
        p.data = p.detach().to(torch.bfloat16)
    twins.take_steps(0, 1, 2)
    assert twins.compiled == 1


def test_gradients_in_another_dtype(native: str) -> None:
    """They break the graph, because torch does not trace them."""
    twins = Twins("AdamSRT", "eager", fullgraph=False)
    for p in itertools.chain(*twins.params):
        p.data, p.grad_dtype = p.detach().to(torch.bfloat16), torch.float32
    for t in range(2):
        for params in twins.params:
            for p, g in zip(params, grads_of(SHAPES, t), strict=True):
                p.grad = g.float()
        twins.step()
        twins.optimizers[1].step()
        twins.assert_same()


def test_hooks_run(native: str) -> None:
    def halve(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.mul_(0.5)

    twins = Twins("AdamSRT", "eager")
    twins.both(lambda o: o.register_step_post_hook(torch.no_grad()(halve)))
    twins.take_steps(0, 1, 2)


def test_a_closure(native: str) -> None:
    """It breaks the graph, because torch traces no backward()."""

    def closure() -> Tensor:
        twins.set_grads(0)
        loss = sum((p * p).sum() for p in twins.params[0])
        loss.backward()
        return loss

    twins = Twins("AdamSRT", "eager", fullgraph=False)
    for _ in range(2):
        loss = twins.step(closure)
        for p, q in zip(*twins.params, strict=True):
            q.grad = p.grad.clone()
        twins.optimizers[1].step()
        twins.assert_same()
        assert loss.requires_grad


def test_a_whole_iteration(native: str) -> None:
    """Of which torch leaves out backward()."""

    def iteration(params: list[Tensor], optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        sum((p * p * p).sum() for p in params).backward()
        optimizer.step()

    twins = Twins("AdamSRT", "eager")
    compiled = torch.compile(iteration, backend="eager")
    for _ in range(2):
        compiled(twins.params[0], twins.optimizers[0])
        iteration(twins.params[1], twins.optimizers[1])
        twins.assert_same()


@each_compiler
def test_grad_scaler(native: str, compiler: str) -> None:
    twins = Twins("AdamSRT", compiler)
    twins.optimizers[0].step = twins.step
    scalers = [torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2) for _ in range(2)]
    for t in range(5):
        for params, optimizer, scaler in zip(twins.params, twins.optimizers, scalers, strict=True):
            optimizer.zero_grad()
            grads = grads_of(SHAPES, t)
            loss = sum((p * g).sum() for p, g in zip(params, grads, strict=True))
            scaler.scale(loss).backward()
            if t in (0, 3):
                params[1].grad[2] = torch.inf
            before = snapshot(optimizer)
            scaler.step(optimizer)
            if t == 3:
                assert_unchanged(optimizer, before)
            scaler.update()
        twins.assert_same()
    assert twins.compiled == 2  # the step that was skipped made no state
