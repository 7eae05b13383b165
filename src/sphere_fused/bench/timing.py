"""Timing steps in turn.

Every contender takes untimed steps and then a timed one, round after round, so that whatever else
the machine does falls on all alike; the untimed ones bring caches, threads and the processor back
from what the contender before left. Three times are told of each, as medians and quartiles in
milliseconds:

    wall    of the whole step(), Python included; on a GPU from an idle device to an idle device
    device  on a GPU, between two events around the step, which waits in the queue until all is
            launched; a CPU is no separate device, and has none
    host    on a GPU, until step() returns; on a CPU, of a step of as many tensors of one element
            or two, which is all but the arithmetic
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from sphere_fused.bench.cases import LIMITS, Case
from sphere_fused.bench.contenders import Contender, Step
from sphere_fused.bench.names import BASE, BASE_W

LEAST_ROUNDS = 3
WARM_UP, ENOUGH = 3, 0.2  # untimed steps, and seconds after which none are needed
# OpenMP's threads wait busily for some milliseconds after the contender before, on what may be the
# other half of a core.
SETTLED = 0.008
CYCLES_PER_MS = 2e6  # of a GPU's clock, at most


class Sample(NamedTuple):
    """One step, in milliseconds; None is what was not timed."""

    wall: float
    host: float | None
    device: float | None = None


def wall(step: Step) -> float:
    """Of the last of a few steps that take some milliseconds; of the first if it takes long."""
    begin, taken = time.perf_counter(), 0
    while True:
        start = time.perf_counter()
        step()
        end, taken = time.perf_counter(), taken + 1
        if end - begin > (SETTLED if taken > WARM_UP else ENOUGH):
            return 1e3 * (end - start)


def timed(contender: Contender, device: str) -> Sample:
    """On a GPU two steps: one from idle to idle, one that waits until the host is done with it."""
    step = contender.step
    if device == "cpu":
        return Sample(wall(step), wall(contender.bare) if contender.bare else None)
    step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    host = 1e3 * (time.perf_counter() - start)
    torch.cuda.synchronize()
    whole = 1e3 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # At most 20 ms: a queue of thousands of launches is full before, and the host waits.
    torch.cuda._sleep(int(CYCLES_PER_MS * min(1.5 * host + 0.2, 20.0)))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return Sample(whole, host, begin.elapsed_time(end))


def measure(
    contenders: Mapping[str, Contender], device: str, rounds: int, seconds: float
) -> dict[str, list[Sample]]:
    """Every contender takes turns until it has used its share of the `seconds`, or all `rounds`;
    LEAST_ROUNDS at least, so that a slow one makes it last longer."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    left = {name: seconds / len(contenders) for name in contenders}
    for done in range(rounds):
        for name, contender in contenders.items():
            if done < LEAST_ROUNDS or left[name] > 0:
                start = time.perf_counter()
                samples[name].append(timed(contender, device))
                left[name] -= time.perf_counter() - start
    return samples


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, 5), "q1": round(low, 5), "q3": round(high, 5)}


def times(of_one: list[Sample]) -> dict[str, dict[str, float]]:
    found = {}
    for kind in Sample._fields:
        values = [value for s in of_one if (value := getattr(s, kind)) is not None]
        if values:
            found[f"{kind}_ms"] = quartiles(values)
    return found


def work_of(row: Mapping[str, Any]) -> float:
    """Milliseconds of the device's time, or of wall time where it is no separate device."""
    return (row.get("device_ms") or row["wall_ms"])["median"]


def summary(samples: Mapping[str, list[Sample]], case: Case) -> dict[str, dict[str, Any]]:
    """A row per contender.

    GB/s are the bytes that a step must move, over its time; a copy and a stream that move as many
    as AdamSRT show what the memory can do.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, of_one in samples.items():
        row = {"rounds": len(of_one), **times(of_one), "bytes": case.traffic(name)}
        rows[name] = row | {"GB_per_s": round(case.traffic(name) / work_of(row) / 1e6, 3)}
    for row in rows.values():
        for limit in LIMITS:
            if limit in rows:
                share = row["GB_per_s"] / rows[limit]["GB_per_s"]
                row[f"share_of_{limit}"] = round(share, 4)
        for base in (BASE, BASE_W):
            if base in rows:
                row["ratio_to_base"] = round(work_of(row) / work_of(rows[base]), 4)
    return rows
