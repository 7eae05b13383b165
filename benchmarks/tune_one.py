"""Times one build for tune.py: AdamSRT and a copy in turn. First sees whether it computes rightly.

    python benchmarks/tune_one.py JSON [--blocks-per-processor N | --triton SETTINGS] [--dry-run]

Writes {"wrong": what differs from the reference, or "", "cases": {case: {"ms", "share_of_copy"}}}.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import sanitize
import torch

import sphere_fused
from sphere_fused.backends import BACKENDS, native
from sphere_fused.bench import cases
from sphere_fused.bench.names import OURS, TRITON
from sphere_fused.bench.run import ROUNDS_OF_DRY_RUN, one_case
from sphere_fused.bench.timing import work_of

STEPS = 3
# Coarse: not rounding is to be found, but elements that nobody has stepped, or twice.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4e-2}


def use(
    threads: int = 0, registers: int = 0, wide: int = 0, narrow: int = 0, chunk: int = 0
) -> None:
    """Have the Triton backend take those that are not 0, for arithmetic in float32."""
    from sphere_fused.backends.triton import launch, shapes

    launch.THREADS = threads or launch.THREADS
    launch.REGISTERS[4] = registers or launch.REGISTERS[4]
    for size, loads_are_wide in ((wide, True), (narrow, False)):
        sizes = shapes.SIZES[4, loads_are_wide]
        if size:  # single elements and the longest row keep their ratio to it
            sizes = sizes._replace(
                single=sizes.single * size // sizes.rows,
                rows=size,
                row=sizes.row * size // sizes.rows,
            )
        if chunk:
            sizes = sizes._replace(chunk=chunk if loads_are_wide else chunk // 2)
        shapes.SIZES[4, loads_are_wide] = sizes


def wrong(device: str, backend: str) -> str:
    """Where AdamSRT differs from its reference; '' if nowhere."""
    tiers = [*sanitize.TILES, *sanitize.ROWS, *sanitize.OF_CLUSTERS, *sanitize.LONG]
    shapes = [(s, (0,)) for s in [*tiers, (20_000, 1)]]  # of single elements, several turns
    shapes += [(s, (1,)) for s in [*sanitize.COLUMNS, *sanitize.LONG_COLUMNS]]
    found = []
    for dtype, tolerance in TOLERANCE.items():
        first = [sanitize.parameter(shape, device, dtype) for shape, _ in shapes]
        stepped = []
        for name in (backend, "reference"):
            params = [p.detach().clone().requires_grad_() for p in first]
            groups = []
            for p, given, (_, dims) in zip(params, first, shapes, strict=True):
                p.grad = given.grad
                groups.append({"params": [p], "channel_dims": dims})
            optimizer = sphere_fused.AdamSRT(groups, lr=0.1, backend=name)
            for _ in range(STEPS):
                optimizer.step()
            stepped.append(params)
        for (shape, dims), p, q in zip(shapes, *stepped, strict=True):
            if not torch.allclose(p, q, rtol=tolerance, atol=tolerance):
                found.append(f"{shape} {dims} {str(dtype).removeprefix('torch.')}")
    return "; ".join(found)


def told(found: dict[str, Any], name: str) -> dict[str, Any]:
    ours = found.get("rows", {}).get(name, {})
    if "share_of_copy" not in ours:
        return {"error": found.get("error") or ours.get("error") or "the copy failed"}
    return {"ms": work_of(ours), "share_of_copy": ours["share_of_copy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path, help="where to write the result")
    parser.add_argument(
        "--blocks-per-processor", type=int, metavar="N", help="launch no more than N at once"
    )
    parser.add_argument(
        "--triton", type=json.loads, metavar="SETTINGS", help="time Triton, with these for `use`"
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args()
    dry_run, device = arguments.dry_run, "cpu" if arguments.dry_run else "cuda"
    if dry_run:
        torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.blocks_per_processor:
        count = 1 if dry_run else torch.cuda.get_device_properties(0).multi_processor_count
        native.MOST_BLOCKS = arguments.blocks_per_processor * count
    backend, ours = "native", OURS
    if arguments.triton is not None:
        backend, ours = "triton", TRITON
        if reasons := BACKENDS[backend].unavailable(torch.device(device)):
            raise SystemExit("; ".join(reasons))
        use(**arguments.triton)
    result: dict[str, Any] = {"wrong": wrong(device, backend), "cases": {}}
    for case in cases.tuning(dry_run, ours):
        rounds = ROUNDS_OF_DRY_RUN if dry_run else case.rounds
        name = f"{case.name}, {case.dtype}"
        result["cases"][name] = told(one_case(case._replace(rounds=rounds), device), ours)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
