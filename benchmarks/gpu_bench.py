"""Times every case of cases.py on a GPU: ours, torch's and our reference, beside a plain copy.

How is told in timing.py. The result is written after every case. `--compiled` times torch.compile
of our reference instead.

    python benchmarks/gpu_bench.py JSON [--compiled] [--dry-run]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import cases
import torch
from cases import Case
from contenders import described, make
from names import BASE, OURS, TRITON
from timing import measure, summary

ROUNDS_OF_DRY_RUN = 6


def clean(device: str) -> None:
    """Free what the case before needed."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def one_case(case: Case, device: str) -> dict[str, Any]:
    clean(device)
    try:
        contenders, others = make(case, device)
        found: dict[str, Any] = {**others}
        found |= summary(measure(contenders, device, case.rounds, case.seconds), case)
        if device == "cuda":
            cache = torch.cuda.get_device_properties(0).L2_cache_size
            found["fits_in_L2"] = case.traffic() < cache
        return found
    except Exception as error:  # must not cost the other cases
        return {"error": described(error)}


def spoilt(device: str) -> bool:
    """Whether an error was such that this process cannot use the device any more."""
    try:
        if device == "cuda":
            torch.cuda.synchronize()
        return False
    except RuntimeError:
        return True


def launches(case: Case, device: str) -> dict[str, int]:
    """How many kernels, copies and fills a step of ours and of torch's launches."""
    clean(device)
    counts = {}
    for name, step in make(case._replace(contenders=(OURS, TRITON, BASE)), device)[0].items():
        with torch.profiler.profile() as profiler:
            step()
            if device == "cuda":
                torch.cuda.synchronize()
        counts[name] = sum(
            event.device_type == torch.autograd.DeviceType.CUDA
            and not event.name.startswith("Optimizer.")  # spans the step
            for event in profiler.events()
        )
    return counts


def count_launches(todo: list[Case], device: str, result: dict[str, Any]) -> None:
    """Adds them to what is known of each case; welcome, and nothing depends on it.

    To be called when all is timed: once the profiler has run, a launch may take longer.
    """
    for case in todo:
        try:
            for name, count in launches(case, device).items():
                result[case.section][case.name][name]["launches"] = count
        except Exception as error:  # such as a profiler that may not be used
            print(f"{case.name}: launches not counted: {described(error)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path, help="where to write the result")
    parser.add_argument("--compiled", action="store_true", help="torch.compile of our reference")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument(
        "--after", type=int, default=0, metavar="N", help="go on after N cases, without Triton"
    )
    arguments = parser.parse_args()
    dry_run, device = arguments.dry_run, "cpu" if arguments.dry_run else "cuda"
    if dry_run:
        torch.set_num_threads(1)  # or threads that wait for each other take longer than the rest
    todo = cases.compiled(dry_run) if arguments.compiled else cases.benchmark(dry_run)
    result: dict[str, dict[str, Any]] = {}
    failed, after = False, arguments.after
    if after:
        failed, result = True, json.loads(arguments.json.read_text())

    def note(section: str, name: str, found: dict[str, Any]) -> None:
        result.setdefault(section, {})[name] = found
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")

    for number, case in enumerate(todo):
        if number < after:
            continue
        if after:
            case = case._replace(contenders=tuple(n for n in case.contenders if n != TRITON))
        if dry_run:
            case = case._replace(rounds=ROUNDS_OF_DRY_RUN)
        elif case.needs:
            clean(device)
            if torch.cuda.mem_get_info()[0] < case.needs:
                print(f"{case.name} needs {case.needs / 2**30:.0f} GiB of free memory")
                continue
        note(case.section, case.name, {"error": "not finished in the time given"})
        found = one_case(case, device)
        errors = [found[n]["error"] for n in case.contenders if "error" in found.get(n, {})]
        errors += [found["error"]] if "error" in found else []
        failed |= bool(errors)
        note(case.section, case.name, found)
        print(f"{case.section}, {case.name}: {'; '.join(errors) or 'measured'}", flush=True)
        if errors and not after and spoilt(device):
            # Triton's kernels are the likeliest to have done it, and must not cost the other cases.
            print("the device is lost to this process: the others are timed without Triton")
            sys.stdout.flush()
            again = [sys.executable, *sys.argv, "--after", str(number + 1)]
            os.execv(sys.executable, again)
    if not arguments.compiled:
        counted = ("models, float32", "small, float32")
        count_launches([c for c in todo if c.section in counted and not c.needs], device, result)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
