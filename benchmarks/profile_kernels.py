"""Runs profile_steps.py under Nsight Compute, and makes a table of what its counters say.

    python benchmarks/profile_kernels.py JSON [--dry-run]

Every step begins with the kernel begin_entries, which tells the cases apart. A row per kernel, and
one for the step where it has several; rates are per element of the step's tensors. Where the
profiler is missing or may not read the counters, the last line says `skipped: ` and why. A dry run
takes its numbers, which mean nothing, from no profiler.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("profile_steps.py")
BEGINS = "begin_entries"
OURS = rf"\w*_units|{BEGINS}"
TIME, READ, WRITTEN = "gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum"
INSTRUCTIONS = "smsp__inst_executed.sum"
# Of single kernels only: what they are called in the result.
PERCENTAGES = {
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "percent_of_peak_dram",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "percent_of_warps",
    "lts__t_sector_hit_rate.pct": "percent_of_L2_hits",
    "launch__registers_per_thread": "registers",
}
METRICS = [TIME, READ, WRITTEN, INSTRUCTIONS, *PERCENTAGES]
Kernel = dict[str, Any]  # its name, and its metrics that are known


def command(log: Path, steps: list[str]) -> list[str]:
    options = ["--csv", "--log-file", str(log), "--print-units", "base"]
    options += ["--print-kernel-base", "function", "--kernel-name", f"regex:.*({OURS}).*"]
    options += ["--metrics", ",".join(METRICS), "--profile-from-start", "off"]
    # The clocks that the benchmark has, and a process that python may start.
    options += ["--clock-control", "none", "--target-processes", "all"]
    return ["ncu", *options, *steps]


def number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:  # n/a
        return None


def kernels_of(text: str) -> list[Kernel]:
    """In their order, from a table with a line for every metric of every kernel."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith('"ID"')]
    if not heads:
        return []
    kernels: dict[str, Kernel] = {}
    for row in csv.DictReader(line for line in lines[heads[0] :] if line.startswith('"')):
        found = re.search(OURS, row["Kernel Name"])
        kernel = kernels.setdefault(row["ID"], {"name": found[0] if found else row["Kernel Name"]})
        kernel[row["Metric Name"]] = number(row["Metric Value"])
    return list(kernels.values())


def by_step(kernels: list[Kernel]) -> list[list[Kernel]]:
    steps: list[list[Kernel]] = []
    for kernel in kernels:
        if kernel["name"] == BEGINS or not steps:
            steps.append([])
        steps[-1].append(kernel)
    return steps


def row_of(case: str, elements: int, name: str, kernels: list[Kernel]) -> dict[str, Any]:
    def total(*metrics: str) -> float | None:
        values = [kernel.get(metric) for kernel in kernels for metric in metrics]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    nanoseconds, moved, instructions = total(TIME), total(READ, WRITTEN), total(INSTRUCTIONS)
    rate = moved / nanoseconds if moved is not None and nanoseconds else None
    row = {
        "case": case,
        "kernel": name,
        "us": None if nanoseconds is None else nanoseconds / 1e3,
        "GB_per_s": rate,
        "bytes_per_element": None if moved is None else moved / elements,
        "instructions_per_element": None if instructions is None else 32 * instructions / elements,
    }
    for metric, told in PERCENTAGES.items():
        row[told] = kernels[0].get(metric) if len(kernels) == 1 else None
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}


def table(taken: list[dict[str, Any]], kernels: list[Kernel]) -> list[dict[str, Any]]:
    rows = []
    steps = by_step(kernels)
    for known, step in zip(taken, steps, strict=False):
        case, elements = known["case"], known["elements"]
        own = [kernel for kernel in step if kernel["name"] != BEGINS]
        rows += [row_of(case, elements, k["name"], [k]) for k in own]
        rows += [row_of(case, elements, "the whole step", step)]
    if len(steps) != len(taken):
        print(f"{len(steps)} steps were profiled, of {len(taken)} taken")
    return rows


def made_up(taken: list[dict[str, Any]]) -> str:
    """What a profiler might print."""
    lines = ["==PROF== Connected to process 1", '"ID","Kernel Name","Metric Name","Metric Value"']
    for step in range(len(taken)):
        for i, name in enumerate((BEGINS, "row_units")):
            for metric in METRICS:
                lines.append(f'"{2 * step + i}","{name}","{metric}","1,000.5"')
    return "\n".join(lines)


def why_not(output: str) -> str:
    """What a profiler that has seen nothing says of it."""
    if "ERR_NVGPUCTRPERM" in output:
        return "ncu may not read the GPU's counters here (ERR_NVGPUCTRPERM)"
    errors = [line for line in output.splitlines() if line.startswith("==ERROR==")]
    return errors[0].removeprefix("==ERROR== ") if errors else "ncu has profiled no kernel"


def profiled(log: Path, steps: list[str]) -> str:
    """What the profiler has written and said."""
    in_english = {**os.environ, "LC_ALL": "C"}  # elsewhere a comma may be a decimal point
    done = subprocess.run(command(log, steps), capture_output=True, text=True, env=in_english)
    said = done.stdout + done.stderr
    print(said[-3000:])
    return (log.read_text() if log.exists() else "") + "\n" + said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path, help="where to write the result")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args()
    taken_at = arguments.json.with_suffix(".cases")
    steps = [sys.executable, str(SCRIPT), str(taken_at), *(["--dry-run"] * arguments.dry_run)]
    if arguments.dry_run:
        subprocess.run(steps, check=True)
        output = made_up(json.loads(taken_at.read_text()))
    elif shutil.which("ncu"):
        output = profiled(arguments.json.with_suffix(".csv"), steps)
    else:
        print("skipped: ncu is not on PATH")
        return 0
    kernels = kernels_of(output)
    if not kernels:
        print(f"skipped: {why_not(output)}")
        return 0
    rows = table(json.loads(taken_at.read_text()), kernels)
    arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{len(kernels)} kernels were profiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
