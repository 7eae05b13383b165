"""Time of a whole optimizer step on a GPU: ours, torch's and our reference, beside a plain copy.

Every contender takes an untimed step and then timed ones in turn, round after round. Three times
are told of each, as medians and quartiles in milliseconds:

    device  between two events around the step, which waits in the queue until all is launched
    wall    from an idle device to an idle device
    host    until step() returns

GB/s are the bytes that a step must move at least, over its device time; a copy that moves as many
bytes as AdamSRT shows what the device can do. Written after every model.

    python benchmarks/gpu_bench.py JSON [--compiled] [--dry-run]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench import BASE, CONTENDERS, parameters
from shapes import GPU_MODELS, LARGE_MODELS, Shapes

import sphere_fused
from sphere_fused.backends import reference
from sphere_fused.plan import GroupHyper

COPY, OURS, COMPILED = "copy", "AdamSRT", "AdamSRT, compiled reference"
ROUNDS, SECONDS = 30, 12.0  # per model; at least 5 rounds
TINY_MODELS: dict[str, Shapes] = {"three tensors": [(8, 4, 3, 3), (8,), (10, 64)]}
LARGE_NEEDS = 64 * 2**30  # bytes of free memory
CYCLES_PER_MS = 2e6  # of the device's clock, at most
Step = Callable[[], object]


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


def measure(contenders: dict[str, Step], device: str, rounds: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    end = time.perf_counter() + SECONDS
    for done in range(rounds):
        if done >= 5 and time.perf_counter() > end:
            break
        for name, step in contenders.items():
            step()
            samples[name].append(timed(step, device))
    return samples


def traffic(shapes: Shapes, dtype: torch.dtype, per_segment: bool) -> int:
    """The bytes of one step: w read and written, g read, moments (float32) read and written.

    A second moment that is kept `per_segment` counts where segments have one element only.
    """
    total = 0
    for shape in shapes:
        keeps_second = not per_segment or math.prod(shape[1:]) == 1
        total += math.prod(shape) * (3 * dtype.itemsize + (16 if keeps_second else 8))
    return total


def copying(size: int, device: str) -> Step:
    """Moves `size` bytes, half of them read and half written."""
    source = torch.randn(size // 8, device=device)
    target = torch.randn(size // 8, device=device)
    return lambda: target.copy_(source)


def compiled_reference(params: list[torch.Tensor]) -> Step:
    """AdamSRT's reference under torch.compile: one program per shape, called for every tensor.

    (One program for all tensors takes inductor minutes.)
    """
    torch._dynamo.config.recompile_limit = 100
    optimizer = sphere_fused.AdamSRT(params, backend="reference")
    hyper: GroupHyper = optimizer.hyper(optimizer.param_groups[0])
    segments, classic = optimizer.rule, optimizer.classic

    @torch.compile(dynamic=False, fullgraph=True)
    def step_one(
        w: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, step: torch.Tensor
    ) -> None:
        inside = tuple(range(1, w.dim())) if v.shape != w.shape else ()
        rule = segments if inside else classic
        step.add_(1)
        h = hyper.at(step.double(), math.prod(w.shape[1:]))
        x, new_m, new_v = reference.moments(rule, g, m, v, h)
        u = reference.decide(rule, w, x, g, new_v, inside, h)
        if inside:
            new_m = u.b_w * w + u.b_x * x
        w.copy_(u.a_w * w + u.a_x * x)
        m.copy_(new_m)
        v.copy_(u.s)

    tensors = []
    for p in params:
        whole = torch.zeros_like(p, requires_grad=False)
        segmented = math.prod(p.shape[1:]) > 1
        v = whole[(slice(None), *(slice(1) for _ in p.shape[1:]))].clone() if segmented else whole
        step = torch.zeros((), device=p.device)
        tensors.append((p, p.grad, whole.clone(), v, step))

    @torch.no_grad()
    def step_all() -> None:
        for of_one in tensors:
            step_one(*of_one)

    return step_all


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def make(
    names: list[str], shapes: Shapes, device: str, dtype: torch.dtype
) -> tuple[dict[str, Step], dict[str, str]]:
    """The contenders, warmed up, and those that cannot run with the reason."""
    params = parameters(shapes, device, dtype)  # the same for all, which compute but do not learn
    made: dict[str, Step] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            if name == COPY:
                step = copying(traffic(shapes, dtype, per_segment=True), device)
            elif name == COMPILED:
                step = compiled_reference(params)
            else:
                step = CONTENDERS[name](params).step
            for _ in range(3):
                step()
            made[name] = step
        except Exception as error:  # must not cost the others
            failed[name] = described(error)
    return made, failed


def quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, 5), "q1": round(low, 5), "q3": round(high, 5)}


def results(
    samples: dict[str, list[Sample]], shapes: Shapes, dtype: torch.dtype
) -> dict[str, dict[str, Any]]:
    """A row per contender."""
    median = {n: statistics.median(s.device for s in of_one) for n, of_one in samples.items()}
    rows = {}
    for name, of_one in samples.items():
        size = traffic(shapes, dtype, per_segment="Adam," not in name)
        rate = size / median[name] / 1e6
        rows[name] = {
            "rounds": len(of_one),
            **{f"{of}_ms": quartiles([getattr(s, of) for s in of_one]) for of in Sample._fields},
            "bytes": size,
            "GB_per_s": round(rate, 2),
        }
        if COPY in median:
            copy_rate = traffic(shapes, dtype, per_segment=True) / median[COPY] / 1e6
            rows[name]["share_of_copy"] = round(rate / copy_rate, 4)
        if BASE in median:
            rows[name]["ratio_to_base"] = round(median[name] / median[BASE], 4)
    return rows


def one_model(
    names: list[str], shapes: Shapes, dtype: torch.dtype, device: str, rounds: int
) -> dict[str, Any]:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()  # of what the model before needed
    try:
        contenders, failed = make(names, shapes, device, dtype)
        found: dict[str, Any] = {name: {"error": reason} for name, reason in failed.items()}
        found |= results(measure(contenders, device, rounds), shapes, dtype)
        if device == "cuda":
            cache = torch.cuda.get_device_properties(0).L2_cache_size
            found["fits_in_L2"] = traffic(shapes, dtype, per_segment=True) < cache
        return found
    except Exception as error:  # must not cost the other models
        return {"error": described(error)}


def everything(compiled: bool, dry_run: bool) -> list[tuple[str, list[str], Shapes, str]]:
    """What to measure: model, contenders, shapes, dtype."""
    models = TINY_MODELS if dry_run else GPU_MODELS
    if compiled:
        names = [COPY, BASE, OURS, COMPILED]
        todo = [(model, names, shapes, "float32") for model, shapes in models.items()]
        return sorted(todo, key=lambda of_model: len(set(of_model[2])))  # the soonest compiled
    todo = [(model, [COPY, *CONTENDERS], shapes, "float32") for model, shapes in models.items()]
    todo += [(model, [COPY, OURS], shapes, "bfloat16") for model, shapes in models.items()]
    if not dry_run and torch.cuda.mem_get_info()[0] >= LARGE_NEEDS:
        todo += [(m, [COPY, OURS, BASE], s, "float32") for m, s in LARGE_MODELS.items()]
    return todo


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path, help="where to write the result")
    parser.add_argument("--compiled", action="store_true", help="torch.compile of our reference")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args()
    device, rounds = ("cpu", 6) if arguments.dry_run else ("cuda", ROUNDS)
    result: dict[str, dict[str, Any]] = {}
    failed = False
    for model, names, shapes, dtype in everything(arguments.compiled, arguments.dry_run):
        result.setdefault(dtype, {})[model] = {"error": "not finished in the time given"}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        found = one_model(names, shapes, getattr(torch, dtype), device, rounds)
        errors = [found[n]["error"] for n in names if "error" in found.get(n, {})]
        errors += [found["error"]] if "error" in found else []
        failed |= bool(errors)
        result[dtype][model] = found
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{model}, {dtype}: {'; '.join(errors) or 'measured'}", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
