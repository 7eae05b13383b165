"""Whether steps and torch's own operators, in turn, take longer than each alone, on the CPU.

Both run on OpenMP's threads. Were these not the same ones, either's would wait busily for more work
while the other's had theirs to do.

    python benchmarks/alternating.py [--seconds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from sphere_fused import AdamSRT
from sphere_fused.bench.contenders import parameters
from sphere_fused.bench.shapes import cifar_resnet20

Step = Callable[[], object]


def pairs() -> dict[str, tuple[Step, Step]]:
    """An operator and a step, of about as long."""
    square, flat = torch.randn(320, 320), torch.randn(1 << 19)
    params = parameters(cifar_resnet20())
    step = AdamSRT(params, backend="native").step
    return {
        "matmul and a step of CIFAR ResNet-20": (lambda: square @ square, step),
        "add_ and a step of CIFAR ResNet-20": (lambda: flat.add_(1.0), step),
    }


def took(step: Step) -> float:
    start = time.perf_counter()
    step()
    return 1e6 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each pair")
    seconds = parser.parse_args().seconds
    print(f"{'us, ' + str(torch.get_num_threads()) + ' threads':<40}{'alone':>8}{'in turn':>9}")
    for name, pair in pairs().items():
        alone: tuple[list[float], list[float]] = ([], [])
        in_turn: tuple[list[float], list[float]] = ([], [])
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for step, times in zip(pair, alone, strict=True):
                times += [took(step) for _ in range(20)][10:]
            for _ in range(10):
                for step, times in zip(pair, in_turn, strict=True):
                    times.append(took(step))
        for what, a, b in zip(name.split(" and "), alone, in_turn, strict=True):
            print(f"{what:<40}{statistics.median(a):>8.1f}{statistics.median(b):>9.1f}")


if __name__ == "__main__":
    main()
