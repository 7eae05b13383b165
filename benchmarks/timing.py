"""Timing steps in turn.

Every contender takes an untimed step and then timed ones, round after round. Three times are told
of each, as medians and quartiles in milliseconds:

    device  between two events around the step, which waits in the queue until all is launched
    wall    from an idle device to an idle device
    host    until step() returns
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from cases import Case
from contenders import Step
from names import BASE, COPY

LEAST_ROUNDS = 5
CYCLES_PER_MS = 2e6  # of the device's clock, at most


class Sample(NamedTuple):
    """One step, in milliseconds."""

    device: float
    wall: float
    host: float


def timed(step: Step, device: str) -> Sample:
    """Two steps on a GPU: one from idle to idle, one that waits until the host is done with it."""
    start = time.perf_counter()
    if device == "cpu":
        step()
        took = 1e3 * (time.perf_counter() - start)
        return Sample(took, took, took)
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    host = 1e3 * (time.perf_counter() - start)
    torch.cuda.synchronize()
    wall = 1e3 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # At most 20 ms: a queue of thousands of launches is full before, and the host waits.
    torch.cuda._sleep(int(CYCLES_PER_MS * min(1.5 * host + 0.2, 20.0)))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return Sample(begin.elapsed_time(end), wall, host)


def measure(
    contenders: Mapping[str, Step], device: str, rounds: int, seconds: float
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() > end:
            break
        for name, step in contenders.items():
            step()
            samples[name].append(timed(step, device))
    return samples


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, 5), "q1": round(low, 5), "q3": round(high, 5)}


def summary(samples: Mapping[str, list[Sample]], case: Case) -> dict[str, dict[str, Any]]:
    """A row per contender.

    GB/s are the bytes that a step must move at least, over its device time; a copy that moves as
    many bytes as AdamSRT shows what the device can do.
    """
    median = {n: statistics.median(s.device for s in of_one) for n, of_one in samples.items()}
    rows = {}
    for name, of_one in samples.items():
        size = case.traffic(per_segment="Adam," not in name)
        rate = size / median[name] / 1e6
        rows[name] = {
            "rounds": len(of_one),
            **{f"{of}_ms": quartiles([getattr(s, of) for s in of_one]) for of in Sample._fields},
            "bytes": size,
            "GB_per_s": round(rate, 2),
        }
        if COPY in median:
            copy_rate = case.traffic() / median[COPY] / 1e6
            rows[name]["share_of_copy"] = round(rate / copy_rate, 4)
        if BASE in median:
            rows[name]["ratio_to_base"] = round(median[name] / median[BASE], 4)
    return rows
