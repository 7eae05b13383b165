"""What a step launches and how much memory it takes: counted, not computed."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sphere_fused.bench.contenders import Contender, Step

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it reports every start and stop
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # how a trace calls what is launched


def tensors_in(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        yield from itertools.chain.from_iterable(map(tensors_in, state.values()))
    elif isinstance(state, (list, tuple)):
        yield from itertools.chain.from_iterable(map(tensors_in, state))


def state_bytes(state: Any) -> int:
    """Of the memory that the tensors in it lie in, each counted once."""
    storages = [t.untyped_storage() for t in tensors_in(state)]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def events_of(step: Step, device: str) -> list[dict[str, Any]]:
    """Of the trace that torch's profiler writes."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text())["traceEvents"]


def operators(events: list[dict[str, Any]]) -> int:
    """How many operators Python called; what these call in turn does not count."""
    spans = sorted(
        (e["ts"], -e["dur"])
        for e in events
        if e.get("cat") == "cpu_op" and not e["name"].startswith("## ")  # which span compiled code
    )
    count, end = 0, float("-inf")
    for start, minus_duration in spans:
        if start >= end:
            count, end = count + 1, start - minus_duration
    return count


def peak(events: list[dict[str, Any]]) -> int:
    """Bytes that were allocated at most during the step, on top of what was there."""
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    changes.sort(key=lambda change: change[0])
    return max(itertools.accumulate((size for _, size in changes), initial=0))


def counted(contender: Contender, device: str, elements: int) -> dict[str, Any]:
    """Bytes of state and of temporaries for each weight; on a CPU how many operators as well."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        contender.step()
        torch.cuda.synchronize()
        found, taken = {}, torch.cuda.max_memory_allocated() - before
    else:
        events = events_of(contender.step, device)
        found, taken = {"operators": operators(events)}, peak(events)
    return {
        **found,
        "state_bytes_per_weight": round(state_bytes(contender.state) / elements, 3),
        "temporary_bytes_per_weight": round(taken / elements, 3),
    }


def launches(step: Step) -> int:
    """Kernels, copies and fills of a step on a GPU.

    To be called when all is timed: once the profiler has run, a launch may take longer.
    """
    return sum(event.get("cat") in ON_DEVICE for event in events_of(step, "cuda"))
