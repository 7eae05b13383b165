"""Times one build for tune.py: AdamSRT and a copy in turn. First sees whether it computes rightly.

    python benchmarks/tune_one.py JSON [--blocks-per-processor N] [--dry-run]

Writes {"wrong": what differs from the reference, or "", "cases": {case: {"ms", "share_of_copy"}}}.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cases
import sanitize
import torch
from gpu_bench import ROUNDS_OF_DRY_RUN, one_case
from names import OURS

import sphere_fused
from sphere_fused.backends import native

STEPS = 3
# Coarse: not rounding is to be found, but elements that nobody has stepped, or twice.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4e-2}


def wrong(device: str) -> str:
    """Where AdamSRT differs from its reference; '' if nowhere."""
    tiers = [*sanitize.TILES, *sanitize.ROWS, *sanitize.OF_CLUSTERS, *sanitize.LONG]
    shapes = [(s, (0,)) for s in [*tiers, (20_000, 1)]]  # of single elements, several turns
    shapes += [(s, (1,)) for s in [*sanitize.COLUMNS, *sanitize.LONG_COLUMNS]]
    found = []
    for dtype, tolerance in TOLERANCE.items():
        for shape, dims in shapes:
            first = sanitize.parameter(shape, device, dtype)
            stepped = []
            for backend in ("native", "reference"):
                p = first.detach().clone().requires_grad_()
                p.grad = first.grad
                optimizer = sphere_fused.AdamSRT([p], lr=0.1, channel_dims=dims, backend=backend)
                for _ in range(STEPS):
                    optimizer.step()
                stepped.append(p.detach())
            if not torch.allclose(stepped[0], stepped[1], rtol=tolerance, atol=tolerance):
                found.append(f"{shape} {dims} {str(dtype).removeprefix('torch.')}")
    return "; ".join(found)


def told(found: dict[str, Any]) -> dict[str, Any]:
    ours = found.get(OURS, {})
    if "share_of_copy" not in ours:
        return {"error": found.get("error") or ours.get("error") or "the copy failed"}
    return {"ms": ours["device_ms"]["median"], "share_of_copy": ours["share_of_copy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path, help="where to write the result")
    parser.add_argument(
        "--blocks-per-processor", type=int, metavar="N", help="launch no more than N at once"
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
    result: dict[str, Any] = {"wrong": wrong(device), "cases": {}}
    for case in cases.tuning(dry_run):
        rounds = ROUNDS_OF_DRY_RUN if dry_run else case.rounds
        name = f"{case.name}, {case.dtype}"
        result["cases"][name] = told(one_case(case._replace(rounds=rounds), device))
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
