"""`python -m sphere_fused bench check FILE`: whether steps have become slower than they were.

Times a few models for two minutes, AdamSRT in turn with torch's fused Adam, and NormAdamW, which
keeps a second moment per element, with AdamW; compares the ratios of their fastest steps with those
in FILE. On one thread: where several wait for each other, a neighbour on the machine slows the two
down, and not alike. One model is timed on all threads too, to see that they are used. A ratio that
is too large is measured again, and the smallest counts.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sphere_fused.bench import machine
from sphere_fused.bench.cases import Case, models_on_cpu, small_on_cpu
from sphere_fused.bench.contenders import make
from sphere_fused.bench.names import BASE, BASE_W, OURS
from sphere_fused.bench.shapes import MODELS
from sphere_fused.bench.timing import LEAST_ROUNDS, wall
from sphere_fused.progress import Progress

CHECKED = ("GPT-2 124M", "ResNet-50", "CIFAR ResNet-20", "1,000 tensors of 64")
CHECKED_IN_BFLOAT16 = ("ResNet-50",)
ON_ALL_THREADS, ALL = "GPT-2 124M, float32", "on all threads"
PER_ELEMENT, ITS_MODEL = "NormAdamW", "ResNet-50"
SLOWER = 1.25  # than committed: what fails
TRIES = 3
AGREE = 1.2  # the largest ratio over the smallest, to be committed
SECONDS = 15.0


class Verdict(NamedTuple):
    """Of one case: `ratio` is our time over that of torch's."""

    case: str
    ratio: float
    committed: float | None  # None: nobody has
    tries: int

    def quotient(self) -> float | None:
        return None if self.committed is None else self.ratio / self.committed

    def passes(self) -> bool:
        quotient = self.quotient()
        return quotient is not None and quotient <= SLOWER


def checked() -> dict[str, Case]:
    """By name, which tells on how many threads; contenders are ours and torch's."""
    wanted = {(name, "float32") for name in CHECKED}
    wanted |= {(name, "bfloat16") for name in CHECKED_IN_BFLOAT16}
    cases = {
        f"{case.name}, {case.dtype}": case._replace(contenders=(OURS, BASE))
        for case in (*models_on_cpu(), *small_on_cpu())
        if (case.name, case.dtype) in wanted
    }
    other = Case("", "", MODELS[ITS_MODEL], (PER_ELEMENT, BASE_W))
    return cases | {
        f"{ITS_MODEL}, float32, {PER_ELEMENT}": other,
        f"{ON_ALL_THREADS}, {ALL}": cases[ON_ALL_THREADS],
    }


@contextlib.contextmanager
def threads_of(name: str) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if name.endswith(ALL) else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ratio_of(name: str, case: Case, seconds: float) -> float:
    """Of the fastest steps. Raises RuntimeError where one of the two cannot step."""
    ours, theirs = case.contenders
    with threads_of(name):
        made, others = make(case, "cpu")
        for absent, told in others.items():
            raise RuntimeError(f"{absent}: {'; '.join(told.values())}")
        times: dict[str, list[float]] = {contender: [] for contender in made}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times[theirs]) < LEAST_ROUNDS:
            for contender, of_one in times.items():
                of_one.append(wall(made[contender].step))
    return min(times[ours]) / min(times[theirs])


def judge(name: str, committed: float | None, measure: Callable[[], float]) -> Verdict:
    """Measures until it passes, TRIES times at most."""
    best = float("inf")
    for done in range(1, TRIES + 1):
        best = min(best, measure())
        verdict = Verdict(name, best, committed, done)
        if verdict.passes() or committed is None:
            break
    return verdict


def table(verdicts: list[Verdict]) -> str:
    lines = [f"| ours / torch's fused | measured | committed | quotient | at most {SLOWER} |"]
    lines.append("|---" * 5 + "|")
    for v in verdicts:
        committed, quotient = "none", ""
        if v.committed is not None:
            committed, quotient = f"{v.committed:.3f}", f"{v.quotient():.2f}"
        met = "yes" if v.passes() else "**no**"
        met += f", after {v.tries} tries" if v.tries > 1 else ""
        lines.append(f"| {v.case} | {v.ratio:.3f} | {committed} | {quotient} | {met} |")
    return "\n".join(lines)


def update(path: Path, seconds: float) -> None:
    """Every ratio is the median of TRIES. Raises RuntimeError where these do not agree."""
    cases = checked()
    progress = Progress(TRIES * len(cases))
    ratios = {}
    for name, case in cases.items():
        found = []
        for _ in range(TRIES):
            found.append(ratio_of(name, case, seconds))
            progress.advance(name)
        if max(found) > AGREE * min(found):
            tries = ", ".join(f"{ratio:.3g}" for ratio in found)
            raise RuntimeError(f"{name}: ratios of {tries}: the machine is too busy")
        ratios[name] = round(statistics.median(found), 4)
    written: dict[str, Any] = {"about": machine.about("cpu"), "ratios": ratios}
    path.write_text(json.dumps(written, indent=1) + "\n")


def read(path: Path) -> tuple[dict[str, float], str]:
    """The committed ratios, and the device they are of if it has another number of threads.

    Raises RuntimeError if the file has none.
    """
    try:
        result = json.loads(path.read_text())
        committed = {str(name): float(ratio) for name, ratio in result["ratios"].items()}
        device = str(result["about"]["device"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RuntimeError(f"{path} holds no ratios; make it anew with --update") from error
    same_threads = device.split(", ")[-1] == machine.about("cpu")["device"].split(", ")[-1]
    return committed, "" if same_threads else device


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sphere_fused bench check", description=__doc__.split("\n\n")[1]
    )
    parser.add_argument("json", type=Path, metavar="FILE", help="ratios of an earlier run")
    parser.add_argument("--update", action="store_true", help="write the ratios there")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="for each case; default %(default)s"
    )
    arguments = parser.parse_args(argv)
    try:
        if arguments.update:
            update(arguments.json, arguments.seconds)
            return 0
        committed, elsewhere = read(arguments.json)
        cases = checked()
        if elsewhere:
            print(f"committed on {elsewhere}; threads differ, so none are compared {ALL}")
            cases = {name: case for name, case in cases.items() if not name.endswith(ALL)}
        progress = Progress(len(cases))
        verdicts = []
        for name, case in cases.items():
            measure = functools.partial(ratio_of, name, case, arguments.seconds)
            verdicts.append(judge(name, committed.get(name), measure))
            progress.advance(name)
    except (RuntimeError, OSError) as error:
        print(f"no result: {error}", file=sys.stderr)
        return 2
    print(table(verdicts))
    return int(not all(verdict.passes() for verdict in verdicts))
