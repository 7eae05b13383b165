"""Optimizers whose steps torch.compile compiles, beside others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
from cases import typical
from oracles.tolerance import assert_same
from stepping import make, random, snapshot
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

SHAPES = [(6, 5), (7,), (4, 3, 3, 3)]
# Compiled by "eager" the operator is given the optimizer's own tensors, by "aot_eager" copies.
each_compiler = pytest.mark.parametrize("compiler", ["eager", "aot_eager"])


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
