"""Compiled steps and mixed precision on an NVIDIA GPU; how to try it without one: test_cuda.py."""

from __future__ import annotations

import pytest
import test_cuda
import torch
from cases import typical
from oracles.tolerance import assert_same
from stepping import make, random
from test_cuda import DEVICE, native_and_triton
from test_mixed_precision import check_accuracy
from torch.optim.lr_scheduler import ExponentialLR

pytestmark = test_cuda.pytestmark
SHAPES = [(6, 5), (3, 2500), (7,)]


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
@native_and_triton
def test_compiled_steps(backend: str, compiler: str) -> None:
    """From the first step on they are those of a twin that is not compiled, as lr changes too."""
    twins = []
    for _ in range(2):
        params = [random(*shape, seed=i).to(DEVICE) for i, shape in enumerate(SHAPES)]
        optimizer = make("AdamSRT", params, backend, **typical("AdamSRT"))
        twins.append((params, optimizer, ExponentialLR(optimizer, 0.5)))
    steps = [torch.compile(twins[0][1].step, backend=compiler), twins[1][1].step]
    for t in range(3):
        for (params, _, schedule), step in zip(twins, steps, strict=True):
            for i, p in enumerate(params):
                p.grad = random(*p.shape, seed=10 * t + i).to(DEVICE)
            step()
            schedule.step()
        for p, q in zip(twins[0][0], twins[1][0], strict=True):
            assert_same(p, q)
            for key, value in twins[0][1].state[p].items():
                assert_same(value, twins[1][1].state[q][key], key)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["AdamSRT", "SGDMRT"])
def test_autocast_reaches_the_accuracy_of_float32(name: str, dtype: torch.dtype) -> None:
    check_accuracy(name, dtype, "native", DEVICE.type)
