"""Time that the host takes for a step of the Triton backend, without a GPU.

300 small tensors on the CPU; Triton's launches are stubbed. In turn with it the native backend and
torch's fused Adam step the same tensors, with CPU kernels that have all but nothing to do, and Adam
once more with its two calls into kernels left out, as our launches are. What it takes on a GPU is
between the two: there these calls launch a dozen kernels, and ours a copy, where addresses are new,
and two.

    python benchmarks/triton_host.py [--seconds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import stubbed
import torch
from torch.optim import Adam, Optimizer

import sphere_fused
from sphere_fused import plan
from sphere_fused.bench.names import BASE, OURS, TRITON

SHAPES = [(2, 2), (2,)] * 150
PURE, BARE = f"{TRITON}, no compiled module", f"{BASE}, no kernels"
TARGET = 0.15
WARM_UP = 3  # steps of a turn that do not count


def nothing(*_: Any, **__: Any) -> None:
    pass


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Adam has two: one counts the step, and one does all the rest."""
    with mock.patch("torch._foreach_add_", nothing), mock.patch("torch._fused_adam_", nothing):
        yield


def made(params: list[torch.Tensor]) -> dict[str, Optimizer]:
    optimizers: dict[str, Optimizer] = {TRITON: sphere_fused.AdamSRT(params, backend="triton")}
    optimizers[TRITON].step()  # makes its plan
    with mock.patch.object(plan, "compiled", None):
        optimizers[PURE] = sphere_fused.AdamSRT(params, backend="triton")
        optimizers[PURE].step()
    optimizers[OURS] = sphere_fused.AdamSRT(params, backend="native")
    return optimizers | {name: Adam(params, fused=True) for name in (BASE, BARE)}


def measure(new_addresses: bool, seconds: float) -> dict[str, float]:
    """Median microseconds of a step of each contender."""
    driver = stubbed.install()
    params = [torch.randn(shape).requires_grad_() for shape in SHAPES]
    gradients = [[torch.randn_like(p) for p in params] for _ in range(2)]
    for p, g in zip(params, gradients[0], strict=True):
        p.grad = g
    optimizers = made(params)
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    end, steps = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        for name, optimizer in optimizers.items():
            with without_kernels() if name == BARE else contextlib.nullcontext():
                for _ in range(1 + WARM_UP):
                    if new_addresses:
                        steps += 1
                        for p, g in zip(params, gradients[steps % 2], strict=True):
                            p.grad = g
                    start = time.perf_counter()
                    optimizer.step()
                    took = time.perf_counter() - start
            times[name].append(1e6 * took)
        driver.launches.clear()
    return {name: statistics.median(of_one) for name, of_one in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="per table; default 5")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    for told, new_addresses in (("the same addresses", False), ("new addresses", True)):
        medians = measure(new_addresses, seconds)
        print(f"gradients at {told:<35}{'us':>8}  {'of Adam':>8}{'of Adam, no kernels':>21}")
        for name, us in medians.items():
            print(f"  {name:<46}{us:>8.1f}{us / medians[BASE]:>10.3f}{us / medians[BARE]:>21.3f}")
    print(f"The target is {TARGET}, of Adam, on a GPU.")


if __name__ == "__main__":
    main()
