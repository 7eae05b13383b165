"""When a GPU takes steps: streams, CUDA graphs, GradScaler and lr in its memory; as test_cuda.py.

SPHERE_FUSED_TEST_DEVICE=cpu plays the graphs.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from cases import typical
from stepping import assert_unchanged, make, snapshot
from test_cuda import (
    DEVICE,
    FEW,
    ON_GPU,
    Kind,
    Run,
    assert_all_same,
    each,
    each_in_both,
    each_width,
    missing,
    native_and_triton,
    only_on_gpu,
)
from torch import Tensor

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(bool(missing()), reason=missing() or "runs")]

# Every tier, in three groups.
MODEL: list[Kind] = [*FEW, ((6, 129), None)]


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Fails if anything waits for the device in here."""
    stream = torch.cuda.current_stream(DEVICE)
    torch.cuda._sleep(200_000_000)  # a tenth of a second
    torch.cuda.set_sync_debug_mode("error")  # tells what torch waits for
    try:
        yield
        # Whatever else waits returns when the stream is at rest.
        assert not stream.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@only_on_gpu
@pytest.mark.parametrize("lr", [1e-3, torch.float32, torch.float64], ids=str)
@each_in_both
def test_a_step_neither_waits_nor_allocates(
    name: str, backend: str, lr: float | torch.dtype
) -> None:
    run, kept = Run(name, FEW, 0, backend=backend), []
    for t in range(4):
        kept += [p.grad for p in run.params]  # so that the new ones lie elsewhere
        run.set_grads([torch.ones_like(p) for p in run.params])
        for group in run.optimizer.param_groups:
            rate = 1e-3 * (1 + t)
            group["lr"] = rate if lr == 1e-3 else torch.tensor(rate, dtype=lr, device=DEVICE)
        # Before, it plans and loads its kernels.
        with without_waiting() if t > 1 else contextlib.nullcontext():
            before = torch.cuda.memory_stats(DEVICE)["allocation.all.allocated"]
            run.optimizer.step()
            after = torch.cuda.memory_stats(DEVICE)["allocation.all.allocated"]
        assert after == before or t <= 1


@only_on_gpu
@pytest.mark.parametrize("count", [1, 2], ids=["one-stream", "alternating-streams"])
@each_in_both
def test_steps_follow_the_current_stream(name: str, backend: str, count: int) -> None:
    """Gradients are NaN until just before a step in its stream, and again just after."""
    run = Run(name, FEW, 4, backend=backend)
    expected = Run(name, FEW, 4, backend=backend).take().outcome()
    ready = [[g.to(DEVICE) for g in of_step] for of_step in run.grads]
    for p in run.params:
        p.grad = torch.full_like(p, torch.nan)
    streams = [torch.cuda.Stream(DEVICE) for _ in range(count)]
    last = torch.cuda.current_stream(DEVICE)
    for stream, of_step in zip(itertools.cycle(streams), ready, strict=False):
        stream.wait_stream(last)
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)  # 10 ms, which a step in another stream would not wait
            for p, g in zip(run.params, of_step, strict=True):
                p.grad.copy_(g)
            run.optimizer.step()
            for p in run.params:
                p.grad.fill_(torch.nan)
        last = stream
    torch.cuda.current_stream(DEVICE).wait_stream(last)
    assert_all_same(run.outcome(), expected)


@only_on_gpu
@each
def test_two_optimizers_in_two_streams(name: str) -> None:
    expected, runs = ([Run(name, FEW, 4, first=50 * i) for i in range(2)] for _ in range(2))
    ready = [[[g.to(DEVICE) for g in of_step] for of_step in run.grads] for run in runs]
    streams = [torch.cuda.Stream(DEVICE) for _ in runs]
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream(DEVICE))
    for t in range(4):
        for stream in streams:
            with torch.cuda.stream(stream):
                torch.cuda._sleep(10_000_000)  # so that both are at work at once
        for run, stream, of_step in zip(runs, streams, ready, strict=True):
            with torch.cuda.stream(stream):
                run.set_grads(of_step[t])
                run.optimizer.step()
    torch.cuda.synchronize(DEVICE)
    for run, alone in zip(runs, expected, strict=True):
        assert_all_same(run.outcome(), alone.take().outcome())


def model(
    name: str, steps: int, *dtypes: torch.dtype, backend: str = "native", **hyper: Any
) -> Run:
    hyper = {**typical(name), "capturable": True, **hyper}
    return Run(name, MODEL, steps, *dtypes, backend=backend, hyper=hyper)


def replayed(work: Callable[[], Any]) -> Callable[[], Any]:
    """`work` captured, which does not do it, or itself where graphs are played."""
    if not ON_GPU:
        return work
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Captured:
    """A captured step with the gradients that are there now, into which a replay's are copied."""

    def __init__(self, run: Run) -> None:
        self._run, self._grads = run, [p.grad for p in run.params]
        self._hyper = [dict(group) for group in run.optimizer.param_groups]
        self._replay = replayed(run.optimizer.step if ON_GPU else self._play)

    def __call__(self, grads: Sequence[Tensor]) -> None:
        for held, g in zip(self._grads, grads, strict=True):
            held.copy_(g)
        self._replay()

    def _play(self) -> None:
        """A graph knows addresses, and numbers as they were."""
        groups, grads = self._run.optimizer.param_groups, [p.grad for p in self._run.params]
        hyper = [dict(group) for group in groups]
        self._run.set_grads(self._grads)
        for group, captured in zip(groups, self._hyper, strict=True):
            group.update(captured)
        self._run.optimizer.step()
        self._run.set_grads(grads)
        for group, now in zip(groups, hyper, strict=True):
            group.update(now)


@each_width
@each_in_both
def test_replays_are_as_steps(name: str, backend: str, dtype: torch.dtype) -> None:
    run = model(name, 6, dtype, backend=backend).take(0, 2)
    replay = Captured(run)
    for grads in run.grads[2:]:
        replay(grads)
    expected = model(name, 6, dtype, backend=backend).take()
    assert_all_same(run.outcome(), expected.outcome())


@pytest.mark.parametrize("count", [130, 1300])
def test_a_graph_of_many_tensors_and_groups(count: int) -> None:
    """Of more than one launch takes by value."""
    kinds: list[Kind] = [((3, 2 + i % 50), (0,)) for i in range(count)]
    runs = [Run("AdamSRT", kinds, 4) for _ in range(2)]
    for run in runs:
        members = [run.params[i : i + 7] for i in range(0, count, 7)]
        groups = [{"params": group, "lr": 1e-3 * (1 + i)} for i, group in enumerate(members)]
        run.optimizer = make("AdamSRT", groups, "native", capturable=True)
    run, expected = runs
    replay = Captured(run.take(0, 1))
    for grads in run.grads[1:]:
        replay(grads)
    assert_all_same(run.outcome(), expected.take().outcome())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_in_both
def test_replays_read_lr(name: str, backend: str, dtype: torch.dtype) -> None:
    rates = torch.tensor([0.1, 0.03, 0.2, 0.001, 0.05], dtype=dtype)
    run, expected = (model(name, 5, backend=backend) for _ in range(2))
    lrs = [rates[0].to(DEVICE, copy=True) for _ in run.optimizer.param_groups]
    for group, lr in zip(run.optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    replay = Captured(run.take(0, 1))
    for t, rate in enumerate(rates.tolist()):
        for i, group in enumerate(expected.optimizer.param_groups):
            group["lr"] = rate if t == 0 else rate / 2**i
            lrs[i].fill_(group["lr"])
        expected.take(t, t + 1)
        if t > 0:
            replay(run.grads[t])
    assert_all_same(run.outcome(), expected.outcome())


@each_in_both
def test_replays_read_grad_scale_and_found_inf(name: str, backend: str) -> None:
    scales = [(2.0**16, 0.0), (4.0, 1.0), (4.0, 0.0), (0.5, 1.0), (2.0**-3, 0.0)]
    run, expected = (model(name, 6, backend=backend) for _ in range(2))
    scale, found_inf = torch.ones(1, device=DEVICE), torch.zeros((), device=DEVICE)
    run.optimizer.grad_scale, run.optimizer.found_inf = scale, found_inf
    replay = Captured(run.take(0, 1))
    expected.take(0, 1)
    for t, (factor, found) in enumerate(scales, 1):
        before = [tensor.clone() for tensor in run.outcome()]
        scale.fill_(factor)
        found_inf.fill_(found)
        replay([torch.full_like(g, torch.inf) if found else g * factor for g in run.grads[t]])
        if found:
            assert_all_same(run.outcome(), before)
        else:
            expected.take(t, t + 1)
    assert_all_same(run.outcome(), expected.outcome())


@each_in_both
def test_steps_between_replays(name: str, backend: str) -> None:
    """A replay does what was captured, and a step what holds when it is taken: other numbers,
    gradients at other addresses, or none."""
    run, expected = (model(name, 9, backend=backend) for _ in range(2))
    group = run.optimizer.param_groups[0]
    captured = {key: group[key] for key in ("lr", "weight_decay") if key in group}
    now = {"lr": captured["lr"] / 3, "weight_decay": captured.get("weight_decay", 0.0) + 0.1}
    replay = Captured(run.take(0, 1))
    expected.take(0, 1)
    for group in run.optimizer.param_groups:
        group.update(now)
    for t in range(1, 9):
        replays = t in (1, 3, 4, 7)
        grads = [g if replays or (i + t) % 3 else None for i, g in enumerate(run.grads[t])]
        for group in expected.optimizer.param_groups:
            group.update(captured if replays else now)
        expected.set_grads(grads)
        expected.optimizer.step()
        if replays:
            replay(grads)
        else:
            run.set_grads(grads)
            run.optimizer.step()
        assert_all_same(run.outcome(), expected.outcome())


@native_and_triton
def test_two_graphs_with_gradients_of_two_dtypes(backend: str) -> None:
    """Each has a table of its own, of which the optimizer knows but the last."""
    narrow, wide = torch.bfloat16, torch.float32
    run, expected = (model("AdamSRT", 8, narrow, backend=backend) for _ in range(2))
    for t in (1, 3, 4, 7):
        run.grads[t] = expected.grads[t] = [g.to(wide) for g in run.grads[t]]
    replays = {}
    for t, dtype in enumerate((narrow, wide)):
        replays[dtype] = Captured(run.take(t, t + 1))
    for t in (2, 3, 4, 5):
        replays[run.grads[t][0].dtype](run.grads[t])
    run.take(6, 7)
    replays[wide](run.grads[7])
    assert_all_same(run.outcome(), expected.take().outcome())


@only_on_gpu
@pytest.mark.parametrize(
    ("capturable", "steps_before", "grad_dtype", "what"),
    [
        (False, 0, torch.bfloat16, "capturable=True"),
        (False, 1, torch.bfloat16, "capturable=True"),
        (True, 0, torch.bfloat16, "take one step outside the graph first"),
        (True, 1, torch.float32, "take one step outside the graph first"),
    ],
    ids=["no-step-before", "not-capturable", "first-step", "other-gradients"],
)
@native_and_triton
def test_what_cannot_be_captured_is_refused(
    capturable: bool, steps_before: int, grad_dtype: torch.dtype, what: str, backend: str
) -> None:
    options: dict[str, Any] = {"backend": backend, "capturable": capturable}
    runs = [model("AdamSRT", 3, torch.bfloat16, **options) for _ in range(2)]
    for run in runs:
        run.grads[steps_before:] = [[g.to(grad_dtype) for g in s] for s in run.grads[steps_before:]]
    run, expected = runs
    run.take(0, steps_before).set_grads(run.grads[steps_before])
    before = snapshot(run.optimizer)
    with pytest.raises(RuntimeError, match=what):
        replayed(run.optimizer.step)
    assert_unchanged(run.optimizer, before)
    assert_all_same(run.take(steps_before).outcome(), expected.take().outcome())


@only_on_gpu
@each_in_both
def test_an_abandoned_capture_changes_nothing(name: str, backend: str) -> None:
    run = model(name, 4, backend=backend).take(0, 2)

    def work() -> None:
        run.optimizer.step()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replayed(work)
    expected = model(name, 4, backend=backend).take()
    assert_all_same(run.take(2).outcome(), expected.outcome())


@only_on_gpu
@each_in_both
def test_a_graph_outlives_its_optimizer(name: str, backend: str) -> None:
    """As long as the weights and the state that it writes do."""
    run = model(name, 4, backend=backend).take(0, 1)
    replay, outcome, grads = Captured(run), run.outcome(), run.grads
    optimizer = weakref.ref(run.optimizer)
    del run.optimizer
    gc.collect()
    assert optimizer() is None
    # Whatever memory that has freed is overwritten.
    sizes = [1 << k for k in range(9, 23) for _ in range(8)]
    junk = [torch.full((size,), 0xFF, dtype=torch.uint8, device=DEVICE) for size in sizes]
    for of_step in grads[1:]:
        replay(of_step)
    assert_all_same(outcome, model(name, 4, backend=backend).take().outcome())
    assert all(bool((t == 0xFF).all()) for t in junk)


class Scaled:
    """Iterations of `run` with a GradScaler, the backward pass of which makes `grads`."""

    def __init__(self, run: Run, grads: Sequence[Tensor], unscales: bool) -> None:
        self._run, self._grads, self._unscales = run, grads, unscales
        self._scaler = torch.amp.GradScaler(DEVICE.type, init_scale=4.0, growth_interval=2)
        self.scale = self._scaler.get_scale
        for p in run.params:
            p.requires_grad_()

    def __call__(self) -> None:
        scaler, optimizer = self._scaler, self._run.optimizer
        optimizer.zero_grad()
        pairs = zip(self._run.params, self._grads, strict=True)
        scaler.scale(sum((p * g).sum() for p, g in pairs)).backward()
        if self._unscales:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("unscales", [False, True], ids=["scaled", "unscaled"])
@each_in_both
def test_grad_scaler(name: str, backend: str, unscales: bool, captured: bool) -> None:
    """A run with an infinity, the step of which is skipped, and without any wait; also whole
    iterations in a graph."""
    run, expected = (model(name, 6, backend=backend) for _ in range(2))
    grads = [torch.empty_like(p) for p in run.params]
    iterate = iteration = Scaled(run, grads, unscales)
    scales = []
    stream = None
    if ON_GPU:
        stream = torch.cuda.Stream(DEVICE)
        stream.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(stream):  # not the default one, as torch asks where a graph follows
        for t, of_step in enumerate(run.grads):
            for held, g in zip(grads, of_step, strict=True):
                held.copy_(g)
            if t == 3:
                grads[0][1, 2] = torch.inf
            else:
                expected.take(t, t + 1)
            scales.append(iteration.scale())
            if t == 1 and captured:
                iterate = replayed(iteration)
            with without_waiting() if ON_GPU and t > 1 else contextlib.nullcontext():
                iterate()
    if ON_GPU:
        torch.cuda.synchronize(DEVICE)
    assert scales == [4.0, 4.0, 8.0, 8.0, 4.0, 4.0]
    assert_all_same([t.detach() for t in run.outcome()], expected.outcome())
