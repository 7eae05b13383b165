"""`python -m sphere_fused bench`: times optimizer steps, ours and others', on one device.

How is told in timing.py, what in cases.py. The result is written after every case. Who cannot begin
costs a row only, and who fails later the case.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from sphere_fused.bench import cases, machine
from sphere_fused.bench.cases import SUITES, Case
from sphere_fused.bench.contenders import ABOUT, described, make
from sphere_fused.bench.counting import counted, launches
from sphere_fused.bench.limits import MEMORY_KEPT, free_memory
from sphere_fused.bench.names import BASE, OURS, TRITON
from sphere_fused.bench.report import blocks
from sphere_fused.bench.targets import judge
from sphere_fused.bench.timing import measure, summary
from sphere_fused.progress import Progress

ROUNDS_OF_DRY_RUN = 6
LARGEST_COUNTED = 2**28  # weights: more take long to make, and launch no more


def clean(device: str) -> None:
    """Free what the case before needed."""
    gc.collect()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    if device == "cuda":
        torch.cuda.empty_cache()


def fitting(case: Case, device: str) -> tuple[Case, dict[str, dict[str, str]]]:
    """The case with those contenders that there is memory for; why the others are absent."""
    free = free_memory(device)
    if free is None:
        return case, {}
    left = free - MEMORY_KEPT - 2 * case.size() * case.elements()
    absent = {}
    for name, size in case.memory().items():
        if size > left:
            absent[name] = {"absent": f"it needs {(size - left) / 2**30:.1f} GiB more memory"}
        else:
            left -= size
    present = tuple(name for name in case.contenders if name not in absent)
    return case._replace(contenders=present), absent


def one_case(case: Case, device: str) -> dict[str, Any]:
    """{"rows": {contender: what is told of it}, ...}, or {"error": ...}."""
    clean(device)
    try:
        case, absent = fitting(case, device)
        contenders, others = make(case, device)
        rows: dict[str, Any] = {**absent, **others}
        rows |= summary(measure(contenders, device, case.rounds, case.seconds), case)
        for name, contender in contenders.items():
            try:  # welcome, and nothing depends on it
                rows[name] |= counted(contender, device, case.elements())
            except Exception as error:  # such as a profiler that may not be used
                rows[name]["not_counted"] = described(error)
        cache = machine.cache_bytes(device)
        return {
            "elements": case.elements(),
            "fits_in_cache": cache and case.touched() < cache,
            "rows": rows,
        }
    except Exception as error:  # must not cost the other cases
        return {"error": described(error)}


def count_launches(todo: list[Case], result: dict[str, Any]) -> None:
    """On a GPU, of ours and of torch's; welcome, and nothing depends on it."""
    for case in todo:
        clean("cuda")
        try:
            made, _ = make(case._replace(contenders=(OURS, TRITON, BASE)), "cuda")
            for name, contender in made.items():
                rows = result["cases"][case.section][case.name]["rows"]
                rows[name]["launches"] = launches(contender.step)
        except Exception as error:  # such as a profiler that may not be used
            print(f"{case.name}: launches not counted: {described(error)}")


def errors_of(found: dict[str, Any]) -> list[str]:
    told = [found, *found.get("rows", {}).values()]
    return [one["error"] for one in told if "error" in one]


def spoilt(device: str) -> bool:
    """Whether an error was such that this process cannot use the device any more."""
    try:
        if device == "cuda":
            torch.cuda.synchronize()
        return False
    except RuntimeError:
        return True


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sphere_fused bench",
        description=__doc__.split("\n")[0],
        epilog="`bench report FILE...` makes tables and a figure of results; `bench check` "
        "compares a few ratios with committed ones; `--help` after either tells more.",
    )
    parser.add_argument("--device", choices=list(SUITES), help="default: a GPU, if there is one")
    suites = sorted({suite for of_device in SUITES.values() for suite in of_device})
    parser.add_argument("--suite", nargs="+", choices=suites, help="default: all but compiled")
    parser.add_argument("--case", nargs="+", metavar="TEXT", help="cases with TEXT in their name")
    parser.add_argument("--seconds", type=float, metavar="S", help="about as long for each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--dry-run", action="store_true", help="the cases of a GPU, tiny, on a CPU")
    parser.add_argument(
        "--after", type=int, default=0, help=argparse.SUPPRESS
    )  # cases, to go on without Triton
    arguments = parser.parse_args(argv)
    arguments.device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.device == "cuda" and not torch.cuda.is_available() and not arguments.dry_run:
        parser.error(f"torch {torch.__version__} finds no GPU here")
    if arguments.seconds is not None and not arguments.seconds > 0:
        parser.error(f"--seconds must be above 0, not {arguments.seconds:g}")
    if arguments.json and arguments.json.is_dir():
        parser.error(f"--json {arguments.json} is a folder: name a file")
    if arguments.json and not arguments.json.resolve().parent.is_dir():
        parser.error(f"the folder of --json {arguments.json} does not exist: create it first")
    return arguments


def chosen(arguments: argparse.Namespace) -> list[Case]:
    suites = SUITES["cuda" if arguments.dry_run else arguments.device]
    names = arguments.suite or [name for name in suites if name != "compiled"]
    found = []
    for name in names:
        if arguments.dry_run and name == "rows":
            found += cases.rows(cases.TINY_ELEMENTS)
        elif name in suites:
            tiny = arguments.dry_run and name != "small"
            found += [cases.tiny(c) if tiny else c for c in suites[name]()]
    if arguments.case:
        wanted = [text.lower() for text in arguments.case]
        found = [c for c in found if any(text in f"{c.name}, {c.dtype}".lower() for text in wanted)]
    if arguments.dry_run:
        found = [c._replace(rounds=ROUNDS_OF_DRY_RUN) for c in found]
    elif arguments.seconds:
        found = [c._replace(seconds=arguments.seconds) for c in found]
    return found


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    device = "cpu" if arguments.dry_run else arguments.device
    if arguments.dry_run:
        torch.set_num_threads(1)  # or threads that wait for each other take longer than the rest
    torch.manual_seed(0)
    todo, after = chosen(arguments), arguments.after
    if not todo:
        print(f"there is no such case for {device} tensors: see --help", file=sys.stderr)
        return 2
    result: dict[str, Any] = {"about": machine.about(device), "contenders": ABOUT, "cases": {}}
    if arguments.dry_run:
        result["dry_run"] = True
    failed = after > 0
    if after:
        result = json.loads(arguments.json.read_text())

    def note(case: Case, found: dict[str, Any]) -> None:
        result["cases"].setdefault(case.section, {})[case.name] = found
        result["targets"] = judge(result["cases"], device)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")

    progress = Progress(len(todo) - after)
    for number, case in enumerate(todo[after:], start=after):
        if after:
            case = case._replace(contenders=tuple(n for n in case.contenders if n != TRITON))
        note(case, {"error": "not finished in the time given"})
        found = one_case(case, device)
        errors = errors_of(found)
        failed |= bool(errors)
        note(case, found)
        progress.advance(f"{case.name}, {case.section}")
        print("\n".join(blocks(case.section, {case.name: found})), flush=True)
        if errors and not after and arguments.json and spoilt(device):
            # Triton's kernels are the likeliest to have done it, and must not cost the other cases.
            print("the device is lost to this process: the others are timed without Triton")
            sys.stdout.flush()
            again = [sys.executable, "-m", "sphere_fused", "bench", *argv]
            os.execv(sys.executable, [*again, "--after", str(number + 1)])
    if device == "cuda":
        counted_in = ("models, float32", "small, float32")
        some = [c for c in todo if c.section in counted_in and c.elements() <= LARGEST_COUNTED]
        count_launches(some, result)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(failed)
