"""The same bits every time: again, with other threads, together or one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import REPRESENTATIVES, known, typical
from layouts import channels_last, permuted
from oracles.tolerance import assert_same
from stepping import make, random, random_grads, take_steps
from torch import Tensor

pytestmark = pytest.mark.parametrize("name", REPRESENTATIVES)
# Odd and even lengths, tensors of one element per segment, and layouts that go another way.
SHAPES: list[tuple[tuple[int, ...], torch.dtype, Callable[[Tensor], Tensor] | None]] = [
    ((16, 3, 3, 3), torch.float32, None),
    ((301, 9), torch.float32, None),
    ((5, 4608), torch.float32, None),
    ((1, 40_001), torch.float32, None),
    ((64,), torch.float32, None),
    ((), torch.float32, None),
    ((16, 8, 3, 3), torch.float32, channels_last),
    ((130, 70), torch.float32, permuted(1, 0)),
    ((33, 65), torch.bfloat16, None),
    ((33, 65), torch.float16, None),
    ((7, 100), torch.float64, None),
    *(((4, 5), torch.float32, None) for _ in range(40)),
]
LONG = [
    ((1, 1_000_003), torch.float32, None),
    ((300, 601), torch.float32, None),
    ((2, 300_001), torch.bfloat16, None),
]
TENSORS = tuple[list[Tensor], list[list[Tensor]]]


def tensors(kinds: list[Any], steps: int) -> TENSORS:
    params, grads = [], []
    for i, (shape, dtype, lay) in enumerate(kinds):
        lay = lay or torch.clone
        params.append(lay(random(*shape, seed=i, dtype=dtype)))
        grads.append([lay(g) for g in random_grads(shape, steps, dtype, seed=100 * i)])
    return params, [list(of_step) for of_step in zip(*grads, strict=True)]


def outcome(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> list[Tensor]:
    return [t for p in params for t in (p, *dict(sorted(optimizer.state[p].items())).values())]


def together(name: str, backend: str, kinds: list[Any], steps: int) -> list[Tensor]:
    params, grads = tensors(kinds, steps)
    optimizer = make(name, params, backend, **typical(name))
    take_steps(optimizer, params, grads)
    return outcome(optimizer, params)


def assert_all_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert len(actual) == len(expected)
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert_same(a, e, f"tensor {i}")


def test_again(name: str, backend: str) -> None:
    first = together(name, backend, SHAPES, 3)
    assert_all_same(together(name, backend, SHAPES, 3), first)


@pytest.mark.parametrize("kinds", [SHAPES, LONG], ids=["many", "long"])
def test_with_any_number_of_threads(
    name: str, kinds: list[Any], native: str, set_threads: Callable[[int], None]
) -> None:
    """Not asked of the reference, whose sums are torch's and depend on the threads."""
    set_threads(1)
    alone = together(name, native, kinds, 2)
    for count in (2, 3, 4):
        set_threads(count)
        assert_all_same(together(name, native, kinds, 2), alone)


def test_one_by_one(name: str, backend: str) -> None:
    expected = together(name, backend, SHAPES, 3)
    params, grads = tensors(SHAPES, 3)
    optimizers = [make(name, [p], backend, **typical(name)) for p in params]
    for of_step in grads:
        for optimizer, p, g in zip(optimizers, params, of_step, strict=True):
            take_steps(optimizer, [p], [[g]])
    results = [t for o, p in zip(optimizers, params, strict=True) for t in outcome(o, [p])]
    assert_all_same(results, expected)


@pytest.mark.parametrize("size", [1, 3])
def test_in_groups(name: str, size: int, backend: str) -> None:
    expected = together(name, backend, SHAPES, 3)
    params, grads = tensors(SHAPES, 3)
    groups = [{"params": params[i : i + size]} for i in range(0, len(params), size)]
    optimizer = make(name, groups, backend, **typical(name))
    take_steps(optimizer, params, grads)
    assert_all_same(outcome(optimizer, params), expected)


def test_in_another_order(name: str, backend: str) -> None:
    expected = together(name, backend, SHAPES, 3)
    params, grads = tensors(SHAPES, 3)
    optimizer = make(name, params[::-1], backend, **typical(name))
    take_steps(optimizer, params, grads)
    assert_all_same(outcome(optimizer, params), expected)


def test_whatever_the_segments_beside(name: str, native: str) -> None:
    """A segment's bits do not depend on its place in the tensor; in the reference they do, because
    torch sums several rows at a time."""
    shape = (37, 27)
    w, grads = random(*shape, seed=1), random_grads(shape, 3)
    params = [w.clone(), w[5:].clone(), w[36:].clone()]
    hyper = {**typical(name), **known(name, decision="filter")}  # or all filters decide for each
    optimizer = make(name, params, native, **hyper)
    take_steps(optimizer, params, [[g, g[5:].clone(), g[36:].clone()] for g in grads])
    assert_same(params[1], params[0][5:])
    assert_same(params[2], params[0][36:])


def test_at_any_address(name: str, native: str) -> None:
    """Vectorized code must not treat aligned and unaligned rows differently."""
    shape = (9, 147)
    w0, grads = random(*shape, seed=2), random_grads(shape, 2)
    results = []
    for offset in range(5):
        room = torch.zeros(w0.numel() + 8)
        p = room[offset : offset + w0.numel()].view(shape)
        p.copy_(w0)
        optimizer = make(name, [p], native, **typical(name))
        take_steps(optimizer, [p], [[g] for g in grads])
        results.append(outcome(optimizer, [p]))
    for result in results[1:]:
        assert_all_same(result, results[0])


def test_in_a_forked_child(name: str, native: str, set_threads: Callable[[int], None]) -> None:
    """OpenMP does not survive a fork: a child that starts threads would wait forever. The child
    does nothing else that is large, because torch would wait as well."""
    set_threads(2)
    (p,), grads = tensors(LONG[:1], 2)
    optimizer = make(name, [p], native, **typical(name))
    take_steps(optimizer, [p], grads[:1])
    p.grad = grads[1][0]
    context = torch.multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def child() -> None:
        optimizer.step()
        queue.put(p[0, ::100_000].tolist())

    process = context.Process(target=child)
    process.start()
    process.join(timeout=20)
    hangs = process.is_alive()
    process.kill()
    assert not hangs
    assert process.exitcode == 0
    optimizer.step()
    assert queue.get() == p[0, ::100_000].tolist()
