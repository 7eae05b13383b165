"""Time of a whole optimizer step, on the CPU: ours against torch's and against our reference.

For a GPU see gpu_bench.py.

Every contender takes a few steps in turn, round after round, so that whatever else the machine does
falls on all alike. The last of them counts: the ones before bring caches, threads and the processor
back from what the contender before left. Reported are medians and their ratios.

    python benchmarks/bench.py [--seconds 15] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from contenders import OPTIMIZERS, parameters
from names import BASE, FOREACH, OURS, REFERENCE
from shapes import MODELS, Shapes

import sphere_fused

CONTENDERS = (OURS, BASE, FOREACH, REFERENCE)
WARM_UP = 3  # steps of a turn that do not count


def measure(shapes: Shapes, seconds: float) -> dict[str, list[float]]:
    """Seconds per step of every contender, one number per round."""
    params = parameters(shapes)  # the same for all, so that where they lie in memory is too
    optimizers = {name: OPTIMIZERS[name](params) for name in CONTENDERS}
    for optimizer in optimizers.values():
        for _ in range(2):
            optimizer.step()
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[BASE]) < 4:
        for name, optimizer in optimizers.items():
            for _ in range(WARM_UP):
                optimizer.step()
            start = time.perf_counter()
            optimizer.step()
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="per model; default 15")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    result = {
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "sphere_fused": sphere_fused.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "milliseconds": {},
    }
    print(f"{result['device']}, torch {result['torch']}\n")
    print(f"| ms per step (ratio to {BASE}) | " + " | ".join(CONTENDERS) + " |")
    print("|---" * (len(CONTENDERS) + 1) + "|")
    for model, shapes in MODELS.items():
        times = measure(shapes, arguments.seconds)
        ms = {name: 1e3 * statistics.median(t) for name, t in times.items()}
        result["milliseconds"][model] = {name: round(t, 4) for name, t in ms.items()}
        cells = [f"{t:.3g} ({t / ms[BASE]:.2f})" for t in ms.values()]
        print(f"| {model} | " + " | ".join(cells) + " |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
