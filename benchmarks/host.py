"""Where the host's time of a step goes, on the CPU: tensors of one element, in one group.

In turn with it torch's fused Adam steps the same tensors.

    python benchmarks/host.py [--tensors 1000] [--seconds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.optim import Adam

from sphere_fused import AdamSRT
from sphere_fused.bench.timing import wall

WHOLE, BASE = "AdamSRT, whole step()", "Adam, fused, whole step()"


def parts(tensors: int) -> dict[str, Callable[[], object]]:
    """What a step does, by name. Some do what others undo, in their order here."""
    params = [torch.randn(1).requires_grad_() for _ in range(tensors)]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer, adam = AdamSRT(params, backend="native"), Adam(params, fused=True)
    idle = AdamSRT([torch.zeros(1).requires_grad_()], backend="native")
    for each in (optimizer, adam, idle):
        each.step()
    assert optimizer._prepared is not None
    plan = optimizer._prepared.plan.native
    hypers = [optimizer.hyper(group) for group in optimizer.param_groups]

    def check() -> None:
        plan.check()
        plan.release()

    def arithmetic() -> None:
        plan.step(hypers, torch.get_num_threads())

    return {
        BASE: adam.step,
        WHOLE: optimizer.step,
        "  step() of torch.optim and ours without gradients": idle.step,
        "    of which hyperparameters": lambda: [
            optimizer.hyper(g) for g in optimizer.param_groups
        ],
        "    of which whether the groups are as they were": optimizer._structure,
        "  whether the tensors are where they were, in C": check,
        "  dispatch and arithmetic, in C++": lambda: (plan.check(), arithmetic(), plan.release()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    timed = parts(arguments.tensors)
    times: dict[str, list[float]] = {name: [] for name in timed}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end:
        for name, part in timed.items():
            times[name].append(1e3 * wall(part))
    medians = {name: statistics.median(of_one) for name, of_one in times.items()}
    *_, checked, stepped = medians
    medians[stepped] -= medians[checked]  # a step needs a check before it
    print(f"{arguments.tensors:,} tensors of one element{'us':>31}  of Adam")
    for name, us in medians.items():
        print(f"{name:<54}{us:>8.1f}{us / medians[BASE]:>9.4f}")


if __name__ == "__main__":
    main()
