"""What threads do for a step on the CPU, and what steps and torch's operators cost each other.

First, how much faster all threads are than one, for parameters of equal and of very different
sizes. Were the work not balanced, or did threads write to the same lines of the cache, models of
odd sizes would gain less than the even one.

Second, operators and steps in turn against each alone. Both run on OpenMP's threads; were these not
the same ones, either's would wait busily while the other's had work to do. Each also finds the
other's tensors in its cache: that is what torch's own Adam, which steps in our place, and one
thread, which waits for nobody, are compared for.

    python benchmarks/threads.py [--seconds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from sphere_fused import AdamSRT
from sphere_fused.bench.contenders import parameters
from sphere_fused.bench.shapes import Shapes, cifar_resnet20

Step = Callable[[], object]

SIZES: dict[str, Shapes] = {
    "256 of 256x256": [(256, 256)] * 256,
    "a matrix": [(4096, 4096)],
    "a row": [(1, 1 << 24)],
    "a matrix and 10,000 of 8x8": [(4000, 4000)] + [(8, 8)] * 10_000,
    "each half the last": [(max(1, 8192 >> i), 1024) for i in range(14)],
    "rows that end within lines": [(4001, 4003), (333, 77), (9, 5), (10_007, 3)],
    "in cache: 8 of 256x256": [(256, 256)] * 8,
    "in cache: each half the last": [(256 >> i, 1024) for i in range(9)],
    "in cache: within lines": [(501, 1003), (333, 77), (9, 5)],
}


def took(step: Step) -> float:
    start = time.perf_counter()
    step()
    return 1e6 * (time.perf_counter() - start)


def alone_and_in_turn(steps: list[Step], seconds: float) -> list[tuple[float, float]]:
    """Microseconds of each: after others of its own, and after one of another."""
    alone: list[list[float]] = [[] for _ in steps]
    in_turn: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for step, times in zip(steps, alone, strict=True):
            times += [took(step) for _ in range(6)][2:]
        for _ in range(4):
            for step, times in zip(steps, in_turn, strict=True):
                times.append(took(step))
    return [
        (statistics.median(a), statistics.median(b)) for a, b in zip(alone, in_turn, strict=True)
    ]


def on_threads(threads: int, step: Step) -> Step:
    def run() -> None:
        torch.set_num_threads(threads)
        step()

    return run


def print_sizes(threads: int, seconds: float) -> None:
    print(f"{'us':<32}{'one thread':>12}{f'{threads} threads':>12}{'gain':>8}")
    for name, shapes in SIZES.items():
        step = AdamSRT(parameters(shapes), backend="native").step
        each = [on_threads(count, step) for count in (1, threads)]
        (one, _), (all_of_them, _) = alone_and_in_turn(each, seconds)
        print(f"{name:<32}{one:>12.0f}{all_of_them:>12.0f}{one / all_of_them:>8.2f}")


def print_in_turn(threads: int, seconds: float) -> None:
    square, flat = torch.randn(320, 320), torch.randn(1 << 19)
    fused = torch.optim.Adam(parameters(cifar_resnet20()), fused=True)
    operators: dict[str, Step] = {
        "matmul": lambda: square @ square,
        "add_": lambda: flat.add_(1.0),
    }
    optimizers: dict[str, Step] = {
        "AdamSRT": AdamSRT(parameters(cifar_resnet20()), backend="native").step,
        "Adam, fused": fused.step,
    }
    print(f"{'us':<32}{'threads':>8}{'alone':>9}{'in turn':>9}{'':>4}{'alone':>9}{'in turn':>9}")
    for operator, run in operators.items():
        for optimizer, step in optimizers.items():
            for count in (threads, 1):
                torch.set_num_threads(count)
                row = f"{f'{operator} and {optimizer}':<32}{count:>8}"
                for alone, in_turn in alone_and_in_turn([run, step], seconds):
                    row += f"{alone:>9.1f}{in_turn:>9.1f} {in_turn / alone - 1:+4.0%}"
                print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line")
    seconds = parser.parse_args().seconds
    threads = torch.get_num_threads()
    print_sizes(threads, seconds)
    print()
    print_in_turn(threads, seconds / 2)


if __name__ == "__main__":
    main()
