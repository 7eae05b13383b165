"""Running an optimizer of the package, as the tests need it again and again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import sphere_fused


def random(
    *shape: int, seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def random_grads(
    shape: Sequence[int], steps: int, dtype: torch.dtype = torch.float32, seed: int = 1000
) -> list[Tensor]:
    """Gradients with a mean, so that the first moment is not all noise."""
    mean = random(*shape, seed=seed)
    return [
        (mean + random(*shape, seed=seed + 1 + t, dtype=torch.float64)).to(dtype)
        for t in range(steps)
    ]


def make(name: str, params: Any, backend: str | None = None, **hyper: Any) -> Optimizer:
    return getattr(sphere_fused, name)(params, backend=backend, **hyper)


def set_grad(p: Tensor, g: Tensor | None) -> None:
    """`p.grad = g`, in whatever dtype `g` has."""
    if g is not None and g.dtype != p.dtype:
        p.grad_dtype = g.dtype
    p.grad = g


def take_steps(
    optimizer: Optimizer, params: Sequence[Tensor], grads: Sequence[Sequence[Tensor | None]]
) -> None:
    """One step per element of `grads`, each of which has a gradient per parameter."""
    for of_this_step in grads:
        for p, g in zip(params, of_this_step, strict=True):
            set_grad(p, g)
        optimizer.step()


def run(
    name: str, w0: Tensor, grads: Sequence[Tensor], backend: str | None = None, **hyper: Any
) -> tuple[Tensor, dict[str, Any]]:
    """Step one tensor; returns it and its state."""
    p = w0.clone()
    optimizer = make(name, [p], backend, **hyper)
    take_steps(optimizer, [p], [[g] for g in grads])
    return p, optimizer.state[p]


def result_of_child(method: str, target: Callable[..., None], *arguments: Any) -> Any:
    """What target(queue, *arguments) puts into its queue, in a process that starts by `method`."""
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=target, args=(queue, *arguments))
    child.start()
    try:
        return queue.get(timeout=60)
    finally:
        child.kill()


def snapshot(optimizer: Optimizer) -> dict[str, Any]:
    """Copies of all that a step may change."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        "params": [p.detach().clone() for p in params],
        # Dense, because torch.equal has no sparse kernel.
        "grads": [None if p.grad is None else p.grad.to_dense().clone() for p in params],
        "state": [
            {k: v.clone() if isinstance(v, Tensor) else v for k, v in optimizer.state[p].items()}
            if p in optimizer.state
            else {}
            for p in params
        ],
    }


def assert_unchanged(optimizer: Optimizer, before: dict[str, Any]) -> None:
    """Assert that parameters, gradients and state are, bit by bit, what `before` says."""
    after = snapshot(optimizer)
    assert len(after["params"]) == len(before["params"])
    for kind in ("params", "grads"):
        for i, (a, b) in enumerate(zip(after[kind], before[kind], strict=True)):
            assert (a is None) == (b is None), f"{kind} {i} appeared or went"
            assert a is None or torch.equal(a, b), f"{kind} {i} changed"
    for i, (a, b) in enumerate(zip(after["state"], before["state"], strict=True)):
        assert a.keys() == b.keys(), f"state of parameter {i} has {sorted(a)}, had {sorted(b)}"
        for key in a:
            assert torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])), (
                f"state '{key}' of parameter {i} changed"
            )
