"""torch.compile(optimizer.step): the same bits as the step that is not compiled."""

from __future__ import annotations

import copy
import functools
import gc
import itertools
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from cases import REPRESENTATIVES, typical
from oracles.tolerance import assert_same
from stepping import assert_unchanged, make, random, run, snapshot
from torch import Tensor, library
from torch._dynamo.testing import CompileCounterWithBackend
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR

from sphere_fused import functional

SHAPES = [(6, 5), (7,), (4, 3, 3, 3)]
each = pytest.mark.parametrize("name", REPRESENTATIVES)
# Compiled by "eager" the operator is given the optimizer's own tensors, by "aot_eager" copies.
each_compiler = pytest.mark.parametrize("compiler", ["eager", "aot_eager"])


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def grads_of(shapes: list[Any], t: int, missing: tuple[int, ...] = ()) -> list[Tensor | None]:
    return [
        None if i in missing else random(*shape, seed=100 * t + i, dtype=torch.float64)
        for i, shape in enumerate(shapes)
    ]


class Twins:
    """Two optimizers that are made alike; the steps of the first are compiled.

    The first group is stepped by the compiled backend, the second by the reference.
    """

    def __init__(
        self,
        name: str,
        compiler: str,
        backends: tuple[str, str] = ("native", "reference"),
        fullgraph: bool = True,
        **hyper: Any,
    ) -> None:
        self.params: list[list[Tensor]] = []
        self.optimizers: list[Any] = []
        for _ in range(2):
            params = [random(*s, seed=i).requires_grad_() for i, s in enumerate(SHAPES)]
            groups = [
                {"params": params[:2], "backend": backends[0]},
                {"params": params[2:], "backend": backends[1], "lr": 3e-3},
            ]
            self.params.append(params)
            self.optimizers.append(make(name, groups, **{**typical(name), **hyper}))
        self._counter = CompileCounterWithBackend(compiler)
        self._fullgraph = fullgraph

    @functools.cached_property
    def step(self) -> Callable[..., Any]:
        step = self.optimizers[0].step
        return torch.compile(step, backend=self._counter, fullgraph=self._fullgraph)

    @property
    def compiled(self) -> int:
        """How often something was compiled."""
        return self._counter.frame_count

    def both(self, change: Callable[[Any], Any]) -> None:
        for optimizer in self.optimizers:
            change(optimizer)

    def set_grads(self, t: int, missing: tuple[int, ...] = ()) -> None:
        for params in self.params:
            for p, g in zip(params, grads_of([p.shape for p in params], t, missing), strict=True):
                p.grad = None if g is None else g.to(p.dtype)

    def take_steps(self, *numbers: int, missing: tuple[int, ...] = ()) -> None:
        for t in numbers:
            self.set_grads(t, missing)
            self.step()
            self.optimizers[1].step()
            self.assert_same()

    def assert_same(self) -> None:
        mine, other = (snapshot(o) for o in self.optimizers)
        for p, q in zip(mine["params"], other["params"], strict=True):
            assert_same(p, q)
        for s, r in zip(mine["state"], other["state"], strict=True):
            assert s.keys() == r.keys()
            for key in s:
                assert_same(s[key], r[key], key)


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
