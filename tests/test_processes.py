"""Threads, processes, interrupts, and what a hundred thousand steps leave behind."""

from __future__ import annotations

import io
import os
import random as python_random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, typical
from oracles.tolerance import assert_same
from stepping import (
    assert_unchanged,
    make,
    random,
    random_grads,
    result_of_child,
    snapshot,
    take_steps,
)
from torch import Tensor
from torch.optim import Optimizer

SHAPES = [(40, 300), (300, 40), (64, 3, 3, 3), (1, 9000), (64,), ()]


def setting(seed: int = 0) -> tuple[list[Tensor], list[Tensor | None]]:
    """Parameters with gradients, some of which must be copied because they lie otherwise."""
    params = [random(*shape, seed=seed + i) for i, shape in enumerate(SHAPES)]
    grads: list[Tensor | None] = [random(*s, seed=seed + 50 + i) for i, s in enumerate(SHAPES)]
    grads[1] = random(40, 300, seed=seed + 99).t()
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    return params, grads


def outcome(optimizer: Optimizer) -> list[Tensor]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return [t for p in params for t in (p, *optimizer.state[p].values())]


def assert_all_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert_same(a, e, f"tensor {i}")


def in_threads(*actions: Callable[[], None]) -> None:
    """All at once, and taking turns in Python as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    failed: list[BaseException] = []

    def caught(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=caught, args=(action,)) for action in actions]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if failed:
        raise failed[0]


def steps_of(optimizer: Optimizer, count: int) -> Callable[[], None]:
    def action() -> None:
        for _ in range(count):
            optimizer.step()

    return action


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_threads_that_step_an_optimizer_each(
    name: str, threads: int, backend: str, set_threads: Callable[[int], None]
) -> None:
    set_threads(threads)
    steps = 20
    if threads == 2 and backend == "reference":
        pytest.skip("sums of the reference are torch's and depend on its threads")
    alone = [make(name, setting(seed)[0], backend, **typical(name)) for seed in (0, 1000)]
    for optimizer in alone:
        steps_of(optimizer, steps)()
    beside = [make(name, setting(seed)[0], backend, **typical(name)) for seed in (0, 1000)]
    in_threads(*(steps_of(optimizer, steps) for optimizer in beside))
    for optimizer, expected in zip(beside, alone, strict=True):
        assert_all_same(outcome(optimizer), outcome(expected))


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_threads_that_step_one_optimizer_take_turns(name: str, backend: str) -> None:
    """The gradients that one has copied are not freed by the other, and no step is lost."""
    alone = make(name, setting()[0], backend, **typical(name))
    steps_of(alone, 60)()
    shared = make(name, setting()[0], backend, **typical(name))
    in_threads(*[steps_of(shared, 20)] * 3)
    assert_all_same(outcome(shared), outcome(alone))


def step_as_told(queue: Any, checkpoint: bytes) -> None:
    state_dict, params = torch.load(io.BytesIO(checkpoint))
    optimizer = make("AdamSRT", params, "native")
    optimizer.load_state_dict(state_dict)
    for p, g in zip(params, setting()[1], strict=True):
        p.grad = g
    optimizer.step()
    queue.put([t.tolist() for t in outcome(optimizer)])


def test_a_spawned_child_goes_on_bitwise(native: str, set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    params = setting()[0]
    optimizer = make("AdamSRT", params, native)
    optimizer.step()
    checkpoint = io.BytesIO()
    torch.save((optimizer.state_dict(), params), checkpoint)
    results = result_of_child("spawn", step_as_told, checkpoint.getvalue())
    optimizer.step()
    assert results == [t.tolist() for t in outcome(optimizer)]


class Interrupt(Exception):
    pass


def interrupted(action: Callable[[], Any], after: float) -> bool:
    """Whether a signal came before `action` had ended."""

    def handler(*_: Any) -> None:
        raise Interrupt

    before, grad_enabled = signal.signal(signal.SIGALRM, handler), torch.is_grad_enabled()
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        action()
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        return False
    except Interrupt:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
        # torch.no_grad() does not see to this where a signal comes as it ends.
        torch.set_grad_enabled(grad_enabled)


def numbers(optimizer: Optimizer) -> list[bytes]:
    """All of the parameters and their state, bit by bit; state that is absent counts as zeros."""
    params = optimizer.param_groups[0]["params"]
    tensors = list(params)
    for p in params:
        state = optimizer.state.get(p, {})
        tensors += [
            state.get("step", torch.zeros(())),
            state.get("exp_avg", torch.zeros(p.shape)),
            state.get("exp_avg_sq", torch.zeros(1 if p.dim() < 2 else p.shape[0])),
        ]
    return [t.numpy().tobytes() if t.any() else b"" for t in tensors]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_interrupts_fall_between_steps(native: str) -> None:
    """Whenever it comes, in the first step or later, all is as before the step or as after it."""
    steps, rng = 4, python_random.Random(1)
    right = make("AdamSRT", setting()[0], native)
    expected = [numbers(right)]
    started = time.perf_counter()
    for _ in range(steps):
        right.step()
        expected.append(numbers(right))
    took = (time.perf_counter() - started) / steps
    counts = {"before": 0, "after": 0}
    for _ in range(200):
        optimizer = make("AdamSRT", setting()[0], native)
        taken, longest = 0, took
        while taken < steps:
            if not interrupted(optimizer.step, rng.uniform(1e-6, longest)):
                taken += 1
                continue
            now = numbers(optimizer)
            assert now in (expected[taken], expected[taken + 1]), "half of a step was taken"
            if now == expected[taken]:
                counts["before"] += 1
                longest *= 1.5  # or a slow machine would never finish one
            else:
                counts["after"] += 1
                taken += 1
        assert numbers(optimizer) == expected[steps]
    assert min(counts.values()) > 10, counts


class Refusal(Exception):
    pass


def refuse(*_: Any) -> None:
    raise Refusal


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_hooks_that_raise(name: str, backend: str) -> None:
    """Before the step nothing has changed; after it, all has."""
    right, optimizer = (make(name, setting()[0], backend, **typical(name)) for _ in range(2))
    before = snapshot(optimizer)
    hook = optimizer.register_step_pre_hook(refuse)
    with pytest.raises(Refusal):
        optimizer.step()
    assert_unchanged(optimizer, before)
    hook.remove()
    hook = optimizer.register_step_post_hook(refuse)
    with pytest.raises(Refusal):
        optimizer.step()
    hook.remove()
    optimizer.step()
    steps_of(right, 2)()
    assert_all_same(outcome(optimizer), outcome(right))


def test_a_refused_step_under_grad_scaler_leaves_no_scale_behind(backend: str) -> None:
    """GradScaler sets it before the step and takes it away after; with what is there it multiplies
    the next."""
    grads = random_grads((6, 27), 2)
    plain, p = random(6, 27, seed=1), random(6, 27, seed=1)
    right, optimizer = make("AdamSRT", [plain], backend), make("AdamSRT", [p], backend)
    take_steps(right, [plain], [[g] for g in grads])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.zeros(1))
    p.grad = grads[0] * 2.0**10
    scaler.step(optimizer)
    scaler.update()
    p.grad = p.detach()  # which the step would change while it reads it
    with pytest.raises(RuntimeError, match="overlaps"):
        scaler.step(optimizer)
    p.grad = grads[1] * 2.0**10
    scaler.step(optimizer)
    assert_same(p, plain)


GROWTH = """
import copy, resource, sys, torch, sphere_fused
torch.set_num_threads(1)
backend, steps = sys.argv[1], int(sys.argv[2])
params = [torch.ones(8, 12), torch.ones(12, 8), torch.ones(7)]
optimizer = sphere_fused.AdamSRT(params, backend=backend)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
for t in range(steps):
    if t == steps // 5:
        before = resident()
    for p in params:
        p.grad = torch.ones(p.shape[::-1]).t() if p.dim() == 2 and t % 2 else torch.ones(p.shape)
    optimizer.step()
    if t % 100 == 0:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
print(resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
@pytest.mark.parametrize(
    ("backend", "steps"), [("native", 100_000), ("reference", 3_000)], indirect=["backend"]
)
def test_memory_does_not_grow(backend: str, steps: int) -> None:
    """With gradients that are new and lie otherwise at every step, and states that are loaded."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, backend, str(steps)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 2**20  # a dozen bytes per step
