"""One step of AdamSRT in each case, for a profiler that looks between its start and its stop.

    python benchmarks/profile_steps.py JSON [--dry-run]

Writes to JSON, in their order, the cases and the elements that each steps.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path

import torch

from sphere_fused.bench import cases
from sphere_fused.bench.contenders import make
from sphere_fused.bench.names import OURS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args()
    device = "cpu" if arguments.dry_run else "cuda"
    taken = []
    for case in cases.profiled(arguments.dry_run):
        made, others = make(case._replace(contenders=(OURS,)), device)
        if others:
            raise SystemExit(f"{case.name}: {others[OURS]['error']}")
        taken.append({"case": case.name, "elements": case.elements()})
        arguments.json.write_text(json.dumps(taken))
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.profiler.start()
        made[OURS].step()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.profiler.stop()
        del made
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
