"""What the CUDA kernels should reach on an H100, from what is known without one.

For every row of the table of targets: the bytes a step moves, the instructions per element, what is
in flight, and from these the time of the step and its share of the copy rate. The tiers are those
of csrc/cuda/policy.h, asked through a small C++ program; the registers are those of the compiled
module. None of it is a measurement: a prediction to hold `make gpu` against.

    python benchmarks/model.py [--resources]    predictions, or registers of the kernels
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from sphere_fused.bench import cases
from sphere_fused.bench.names import COPY
from sphere_fused.bench.shapes import MODELS
from sphere_fused.bench.targets import ON_GPU

POLICY = Path(__file__).parent.parent / "csrc" / "cuda" / "policy.h"

# Assumed of the device; to be replaced by what a run measures.
PROCESSORS, CLOCK = 132, 1.7e9
COPY_RATE = 3.0e12  # bytes read and written per second
L2_USABLE = 25e6  # bytes: one of its two halves
ISSUED = 0.6 * 4  # instructions per cycle and multiprocessor: of four schedulers
MEMORY, L2 = 0.9e-6, 0.5e-6  # seconds until what was asked for is there, under load
ENTRY = 0.5e-6  # two dependent reads of tables
DECISION, STORE = 0.4e-6, 0.2e-6
SUM = {"lanes": 0.1e-6, "block": 0.4e-6, "cluster": 1.2e-6, "memory": 1.5e-6}
BEGIN, LAUNCH = 3e-6, 2e-6
# Thread instructions, read off the machine code for 9.0, float32: to read and sum, and to write, an
# element; and to decide.
READING = {"vectors": 13.5, "single": 26.0}
WRITING = {"vectors": 7.5, "single": 17.5}
WHOLE = {"tile": 50.0, "elements": 20.0}  # both
PER_DECISION = 350


class Placement(NamedTuple):
    """How policy.h places a tensor; see there."""

    tier: str
    threads: int  # that share a row
    units: int
    at_once: int  # elements that a thread asks for
    piece: int


TIERS = ["elements", "tile", "rows", "clusters", "long rows", "columns", "long columns"]


def placements(asked: list[tuple[int, int, int, int]]) -> list[Placement]:
    """For (outer, dim, inner, vector) of float32 arithmetic, with clusters."""
    calls = "\n".join(f"  show({o}L, {d}L, {i}L, {v});" for o, d, i, v in asked)
    program = f"""
#include <cstdio>
#include "{POLICY}"
using namespace sphere_fused;
void show(int64_t outer, int64_t dim, int64_t inner, int vector) {{
  const Tier tier = dim == 1 ? kElements : tier_of(dim, inner, 4, kMoment, true);
  const int threads = tier == kRows          ? threads_of(dim, 4, kMoment)
                      : tier == kClusterRows ? kThreads * blocks_of(dim, 4, kMoment) : kThreads;
  printf("%d %d %ld %d %d\\n", tier, threads,
         long(units_of(tier, outer, dim, inner, 4, vector, kMoment)),
         chunks_at_once(4, vector) * vector, piece_of(tier, 4));
}}
int main() {{
{calls}
}}
"""
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "ask.cpp", Path(folder) / "ask"
        source.write_text(program)
        subprocess.run(["c++", "-std=c++20", str(source), "-o", str(binary)], check=True)
        lines = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    found = []
    for line in lines.splitlines():
        tier, *numbers = (int(n) for n in line.split())
        found.append(Placement(TIERS[tier], *numbers))
    return found


class Work(NamedTuple):
    """One tensor: what bounds it, in seconds."""

    launch: str
    memory: float  # its bytes at the rate of a copy
    waiting: float  # two blocks per multiprocessor, each waiting for its own memory and sums
    issue: float
    turn: float  # of one block: no launch takes less
    instructions: float  # of warps


def work(shape: tuple[int, ...], dims: tuple[int, ...], size: int, p: Placement) -> Work:
    elements = math.prod(shape)
    dim = math.prod(n for d, n in enumerate(shape) if d not in dims)
    moved = elements * (3 * size + (16 if p.tier == "elements" else 8))
    slots = 2 * PROCESSORS
    launch, kind = "small", "vectors" if dim % (16 // size) == 0 else "single"
    if "columns" in p.tier:
        kind = "single"
    per_element = READING[kind] + WRITING[kind]
    decisions = elements / dim * p.threads
    if p.tier == "elements":
        turn = ENTRY + MEMORY + STORE
        per_element, decisions = WHOLE["elements"], p.units * 256
    elif p.tier == "tile":
        # Each thread walks its row in shared memory three times, some 40 cycles an element.
        turn = ENTRY + MEMORY + DECISION + 3 * dim * 40 / CLOCK / 2 + STORE
        per_element, decisions = WHOLE["tile"], elements / dim
    elif p.tier in ("rows", "clusters"):
        launch = f"{p.tier}, {kind}"
        each = math.ceil(dim / p.threads)
        sums = "cluster" if p.tier == "clusters" else "block" if p.threads > 32 else "lanes"
        turn = ENTRY + math.ceil(each / p.at_once) * MEMORY + SUM[sums] + DECISION + STORE
    else:
        launch = f"{p.tier}, {kind}"
        per_element += READING[kind]  # the second sweep
        at_once = p.at_once if "rows" in p.tier else 8
        batches = math.ceil((16 if "long" in p.tier else dim / 8) / at_once)
        look = ENTRY + batches * MEMORY + SUM["block"]
        update = ENTRY + batches * L2 + STORE
        if "long" in p.tier:
            look, update = look + SUM["memory"], update + L2
            # Both kinds of turns are units: their mean.
            turn = (look + update) / 2
            lag = (math.ceil(dim / p.piece) + slots) * 4096 * (3 * size + 2)
        else:
            turn, lag = look + DECISION + update, slots * dim * 32 * 12
        missed = max(0.0, 1 - L2_USABLE / lag)
        moved += int(missed * elements * (2 * size + 4))  # read again from memory
        decisions = p.units * 256 / 2
    waiting = turn * p.units / slots
    instructions = (elements * per_element + decisions * PER_DECISION) / 32
    issue = instructions / (ISSUED * PROCESSORS * CLOCK)
    return Work(launch, moved / COPY_RATE, waiting, issue, turn, instructions)


class Prediction(NamedTuple):
    seconds: float
    share: float  # of the copy rate
    launches: int
    bound: str
    instructions: float  # of a warp, per element


def predicted(case: cases.Case) -> Prediction:
    size = 2 if case.dtype == "bfloat16" else 4
    asked = []
    for shape in case.shapes:
        dim = math.prod(n for d, n in enumerate(shape) if d not in case.channel_dims)
        inner = 1 if case.channel_dims == (0,) else shape[-1]
        asked.append((math.prod(shape) // dim // inner, dim, inner, 16 // size))
    of_launches: dict[str, list[Work]] = defaultdict(list)
    for shape, p in zip(case.shapes, placements(asked), strict=True):
        one = work(shape, case.channel_dims, size, p)
        of_launches[one.launch].append(one)
    totals = {"memory": 0.0, "waiting": 0.0, "instructions": 0.0}
    seconds = BEGIN
    for works in of_launches.values():
        least = max(w.turn for w in works)
        times = [
            sum(w.memory for w in works),
            max(sum(w.waiting for w in works), least),
            sum(w.issue for w in works),
        ]
        # What overlaps is not hidden to the last (a smooth maximum), and the last turns end apart.
        seconds += LAUNCH + sum(t**4 for t in times) ** 0.25 + least / 2
        for name, time in zip(totals, times, strict=True):
            totals[name] += time
    totals["launches"] = BEGIN + LAUNCH * len(of_launches)
    copy = case.traffic() / COPY_RATE + LAUNCH
    instructions = sum(w.instructions for works in of_launches.values() for w in works)
    bound = max(totals, key=lambda name: totals[name])
    share, launches = copy / seconds, 1 + len(of_launches)
    return Prediction(seconds, share, launches, bound, instructions / case.elements())


def table() -> list[str]:
    lines = [
        "| case | bytes per step | launches | warp instructions per element "
        "| predicted device time | share of copy | bound by |",
        "|---|---|---|---|---|---|---|",
    ]
    missed = []
    bounds = {(t.section, t.case): t.bound for t in ON_GPU if t.above == COPY}
    for case in [*cases.models_on_gpu(), *cases.rows(), *cases.small_on_gpu()]:
        if case.section.startswith("small") and case.name in MODELS:
            continue  # among the models
        p = predicted(case)
        lines.append(
            f"| {case.name}, {case.dtype} | {case.traffic() / 1e6:,.1f} MB | {p.launches} "
            f"| {p.instructions:.2f} | {p.seconds * 1e6:,.0f} us | {p.share:.1%} | {p.bound} |"
        )
        bound = bounds.get((case.section, case.name), 0.0)
        if p.share < bound:
            missed.append(f"{case.name} in {case.dtype} ({p.share:.1%} of {bound:.0%})")
    rate = ISSUED * PROCESSORS * CLOCK / 1e9
    lines += ["", f"At {rate:.0f} G warp instructions per second."]
    lines += [f"Expected to miss its target: {one}." for one in missed]
    return lines


def resources() -> list[str]:
    """Of every kernel: registers, stack and blocks on a multiprocessor, by the compiled module."""
    from sphere_fused import plan

    tool = shutil.which("cuobjdump")
    if tool is None or plan.compiled is None:
        raise SystemExit("cuobjdump must be on PATH and the CUDA kernels compiled")
    command = [tool, "--dump-resource-usage", str(plan.compiled.__file__)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    worst: dict[tuple[str, str], list[int]] = {}
    architecture = name = ""
    for line in listing.splitlines():
        if found := re.match(r"arch = (\w+)", line):
            architecture = found[1]
        elif found := re.match(r" Function (\S+):", line):
            kernel = re.search(r"\d([a-z]+(?:_[a-z]+)+)I", found[1])
            name = kernel[1] if kernel else found[1]
        elif line.startswith("  REG:"):
            used = {k: int(n) for k, n in re.findall(r"(\w+):(\d+)", line)}
            row = worst.setdefault((architecture, name), [0, 10**6, 0, 0])
            row[0] += 1
            row[1] = min(row[1], used["REG"])
            row[2] = max(row[2], used["REG"])
            row[3] = max(row[3], used["STACK"] + used["LOCAL"])
    lines = ["| architecture | kernel | variants | registers | stack, local | blocks of 256 |"]
    lines += ["|---|---|---|---|---|---|"]
    for (arch, kernel), (count, least, most, stack) in sorted(worst.items()):
        rounded = math.ceil(most / 8) * 8
        lines.append(
            f"| {arch} | {kernel} | {count} | {least} to {most} | {stack} "
            f"| {65536 // (256 * rounded)} |"
        )
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resources", action="store_true", help="registers of the built kernels")
    print("\n".join(resources() if parser.parse_args().resources else table()))
