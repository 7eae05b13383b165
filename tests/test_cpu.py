"""The kernels for CPUs: instruction sets, lengths of rows, threads, what a step allocates."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import OPTIMIZERS, REPRESENTATIVES, of_length
from oracles.tolerance import assert_close_to_oracle, assert_same
from stepping import random, random_grads, run

import sphere_fused
from sphere_fused import plan

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# Either side of every edge of csrc/cpu: vectors, batches of rows, rows that are taken alone,
# partial sums, blocks and rows that threads share; and more rows than a batch has.
LENGTHS = (2, 7, 8, 9, 63, 64, 65, 127, 128, 341, 342, 511, 512, 513, 640, 1023, 1024, 1025, 2049)
SHAPES = [*((19, length) for length in LENGTHS), (1025,)]
SHAPES += [(3, 16384), (3, 16385), (3, 32769), (2, 65536), (2, 65537)]
SOME_SHAPES = [(6, 5, 3, 3), (19, 65), (3, 517), (2, 70_001), (33,)]


def instruction_sets() -> list[str]:
    return [] if plan.compiled is None else plan.compiled.instruction_sets()


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, name) for name in OPTIMIZERS]
    + [(dtype, name) for dtype in DTYPES[1:] for name in REPRESENTATIVES],
)
@pytest.mark.parametrize("isa", instruction_sets())
def test_every_instruction_set(isa: str, name: str, dtype: torch.dtype, native: str) -> None:
    plan.compiled.use_instruction_set(isa)
    try:
        for shape in SHAPES if dtype == torch.float32 else SOME_SHAPES:
            w0 = random(*shape, seed=1, dtype=dtype)
            grads = random_grads(shape, 2, dtype)
            hyper = of_length(name, shape[-1])
            p, state = run(name, w0, grads, native, **hyper)
            assert_close_to_oracle(name, w0, grads, p, state, **hyper)
    finally:
        plan.compiled.use_instruction_set(None)


def test_an_unknown_instruction_set_is_refused(native: str) -> None:
    with pytest.raises(ValueError, match="no kernels for abacus"):
        plan.compiled.use_instruction_set("abacus")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_half_is_read_and_rounded_as_torch_does(dtype: torch.dtype, native: str) -> None:
    """With lr 0 a weight is read and written back; with lr 1 float32 gradients are rounded."""
    halves = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(dtype)
    halves[halves.isinf()] = 0.0  # times a weight decay of 0 they are NaN
    p = halves.clone()
    p.grad = torch.zeros_like(p)
    sphere_fused.SGDMRT([p], lr=0.0, channel_dims=None, backend=native).step()
    assert_same(p, halves)

    exponents = random(200_000, seed=1, scale=12.0).exp2()
    values = torch.cat([exponents, -exponents, torch.tensor([65519.9, 65520.0, 1e-8, 2.0**-25])])
    p = torch.zeros(values.shape, dtype=dtype)
    p.grad_dtype = torch.float32
    p.grad = -values
    sphere_fused.SGDMRT([p], lr=1.0, channel_dims=None, backend=native).step()
    assert_same(p, values.to(dtype))


# Rows and columns that are surveyed in several pieces, and rows that are in blocks.
SURVEYED = {"rows": (40, 3000), "blocks": (3, 70_001), "columns": (130, 3000)}
# What is added of the weight to the gradient of the first filter, of the second, and of all others.
# Then all filters are orthogonal to their gradients, or the tensor alone is, or nothing.
VERDICTS = {"filters": (0.0, 0.0, 0.0), "tensor": (1.0, -1.0, 0.0), "nothing": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("lie", SURVEYED)
@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_a_verdict_on_a_tensor_in_pieces(name: str, lie: str, verdict: str, native: str) -> None:
    def made(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        w = torch.nn.functional.normalize(random(*SURVEYED[lie], seed=1, dtype=torch.float64))
        g = random(*SURVEYED[lie], seed=2, dtype=torch.float64)
        g = torch.nn.functional.normalize(g - (g * w).sum(1, keepdim=True) * w)
        first, second, others = VERDICTS[verdict]
        along = torch.full((len(w), 1), others, dtype=torch.float64)
        along[0], along[1] = first, second
        both = [w, g + along * w]
        if lie == "columns":
            both = [a.t().contiguous().t() for a in both]
        return both[0].to(dtype), both[1].to(dtype)

    def stepped(dtype: torch.dtype, backend: str, **hyper: float) -> torch.Tensor:
        w, g = made(dtype)
        return run(name, w, [g, g], backend, lr=0.1, weight_decay=0.1, **hyper)[0]

    # A delta that only filters that are orthogonal but for rounding are below, and the tensor.
    expected = stepped(torch.float64, "reference", delta=0.1)
    torch.testing.assert_close(
        stepped(torch.float32, native, delta=0.1).double(), expected, rtol=1e-5, atol=1e-6
    )
    unprojected = stepped(torch.float64, "reference", delta=0.0)
    assert torch.equal(expected, unprojected) == (verdict == "nothing")


def output_of(script: str, **environment: str) -> list[int]:
    """The numbers that a Python of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


COUNTING = """
import ctypes, gc, torch, sphere_fused
so_far = ctypes.CDLL(None).allocations_so_far
so_far.restype = ctypes.c_long
gc.disable()
for tensors in (10, 1000):
    params = [torch.ones(8, 8).requires_grad_() for _ in range(tensors)]
    for p in params:
        p.grad = torch.ones(8, 8)
    optimizer = sphere_fused.AdamSRT(params, backend="native")
    for _ in range(4):
        before = so_far()
        optimizer.step()
        count = so_far() - before
    print(count)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts through LD_PRELOAD and glibc")
def test_a_step_allocates_nothing_per_tensor(native: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the counter with")
    counter = tmp_path / "allocations.so"
    source = Path(__file__).parent / "allocations.c"
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", counter], check=True)
    few, many = output_of(COUNTING, LD_PRELOAD=str(counter), PYTHONMALLOC="malloc")
    assert few > 0
    assert many == few


THREADS = """
import os, torch, sphere_fused
torch.set_num_threads(3)
torch.ones(1 << 20).add_(1.0)
print(len(os.listdir("/proc/self/task")))
p = torch.ones(1024, 1024).requires_grad_()
p.grad = torch.ones(1024, 1024)
sphere_fused.AdamSRT([p], backend="native").step()
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_steps_run_on_the_threads_of_torch(native: str) -> None:
    """With threads of our own beside them, each set would spin while the other works."""
    if (
        plan.compiled.BUILD["threads"] != "OpenMP"
        or "OpenMP" not in torch.__config__.parallel_info()
    ):
        pytest.skip("either of the two was built without OpenMP")
    before, after = output_of(THREADS)
    assert before >= 3
    assert after == before
