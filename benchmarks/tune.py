"""`make tune`: what other values of the kernels' constants would give on this GPU.

    python benchmarks/tune.py [--only NAME ...] [--output FOLDER] [--dry-run]

Those of csrc/cuda/policy.h: one at a time leaves its present value. Every candidate is a copy of
the sources in build/tune with that one number replaced, compiled for the GPU that is here and for
two pairs of dtypes; MOST_BLOCKS, how many blocks a launch may have, is set at run time. Then each
is timed in a process of its own, which times a copy in turn with it: the share of the copy's rate
is what can be compared between processes. The present values are timed first and last; the two
differ by noise. Nothing is changed in place: who likes a number writes it into policy.h.

Those of the Triton backend, in backends/triton, are set at run time too, for arithmetic in float32:
how many elements a program holds whose loads are wide, or narrow, and how many at a time of rows
that are too long; its threads, and their registers. The table has them beside CUDA's present.

All of it is about fifteen builds, some minutes on 16 cores, and then about forty runs of some 20
seconds: with less time, name constants with --only; `triton` are all of Triton's. What is built
already is not built again. The result is written to FOLDER/tune-<device>.json after every run.

`--dry-run` compiles for 9.0, where nvcc is, and times tiny shapes on the CPU: every build then runs
the same code, so that nothing but noise is told.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from gpu import BENCHMARKS, ROOT, examine, find_toolkit, install, slug_of, without_paths

SCRATCH = ROOT / "build" / "tune"
POLICY, STEPS = Path("csrc/cuda/policy.h"), Path("csrc/cuda/steps.cu")
SOURCES = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "csrc", "src", "tests/oracles"]
CANDIDATES = {
    "kAskedBytes": (16, 64),
    "kPieceBytes": (32, 128),
    "kLeastThreads": (4, 16, 32),
    "kLongestInTile": (16,),
    "kTileBytes": (7680, 10240),  # no more fit in 48 KB
    "kStripRows": (128, 512),
    "kBlocksPerProcessor": (3,),
}
MOST_BLOCKS = "MOST_BLOCKS"
BLOCKS_PER_PROCESSOR = (2, 4, 8)
TRITON = "triton"
# What leaves its present value; see tune_one.use. A thread of many elements decides for fewer of
# them again, and needs more registers.
TRITON_CANDIDATES: dict[str, dict[str, int]] = {
    "as now": {},
    "w1024 t128 r64": {"wide": 1024, "threads": 128, "registers": 64},
    "w1024 t128 r80": {"wide": 1024, "threads": 128, "registers": 80},
    "w1024 t256 r64": {"wide": 1024, "threads": 256, "registers": 64},
    "w2048 t128 r80": {"wide": 2048, "threads": 128, "registers": 80},
    "w2048 t128 r128": {"wide": 2048, "threads": 128, "registers": 128},
    "w2048 t256 r64": {"wide": 2048, "threads": 256, "registers": 64},
    "w2048 t256 r128": {"wide": 2048, "threads": 256, "registers": 128},
    "w4096 t256 r128": {"wide": 4096, "threads": 256, "registers": 128},
    "w4096 t512 r64": {"wide": 4096, "threads": 512, "registers": 64},
    "w4096 t512 r80": {"wide": 4096, "threads": 512, "registers": 80},
    "narrow 256": {"narrow": 256},
    "narrow 1024": {"narrow": 1024},
    "n256 t128 r80": {"narrow": 256, "threads": 128, "registers": 80},
    "n1024 t128 r128": {"narrow": 1024, "threads": 128, "registers": 128},
    "chunk 512": {"chunk": 512},
    "chunk 2048": {"chunk": 2048},
}
# These dtypes are not timed: their kernels become null, which nobody launches.
LEFT_OUT = ("Float64", "Float64Float32", "BFloat16Float32", "Float16", "Float16Float32")
SET_AT_RUN_TIME = ("", MOST_BLOCKS, TRITON)
CORES_PER_BUILD = 4
BUILD_LIMIT, RUN_LIMIT = 500, 150  # seconds


class Candidate(NamedTuple):
    """constant: which has another value; '' if none."""

    constant: str = ""
    value: int | str = 0
    again: bool = False

    def __str__(self) -> str:
        if not self.constant:
            return "present, again" if self.again else "present"
        return f"{self.constant}={self.value}"

    def folder(self) -> Path:
        own = self.constant not in SET_AT_RUN_TIME
        return SCRATCH / (f"{self.constant}-{self.value}" if own else "present")


def replaced(pattern: str, by: str, text: str, where: Path) -> str:
    changed, count = re.subn(pattern, by, text)
    if count != 1:
        raise SystemExit(f"{where} has {count} lines like {pattern!r}, and must have one")
    return changed


def changed(path: Path, text: str, candidate: Candidate) -> str:
    """`text`, of a file of the sources, as the candidate has it."""
    if path == POLICY and candidate.constant not in SET_AT_RUN_TIME:
        line = rf"(inline constexpr int {candidate.constant} = )\d+;"
        text = replaced(line, rf"\g<1>{candidate.value};", text, path)
    if path == STEPS:
        nulls = [f"const Kernels k{pair}Kernels = {{}};" for pair in LEFT_OUT]
        text += "\n".join(["", "namespace sphere_fused {", *nulls, "}", ""])
    if path == Path("setup.py"):
        for pair in LEFT_OUT:
            text = replaced(rf'\n    "{pair}": \(.*\),', "", text, path)
    return text


def copy_sources(candidate: Candidate) -> None:
    """Leaves alone what is there already, so that it is not compiled again."""
    for source in SOURCES:
        top = ROOT / source
        for path in [top] if top.is_file() else sorted(top.rglob("*.*")):
            if path.suffix in (".pyc", ".so") or not path.is_file() or ".egg-info" in str(path):
                continue
            name = path.relative_to(ROOT)
            text = changed(name, path.read_text(), candidate)
            target = candidate.folder() / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_text() != text:
                target.write_text(text)


def build(candidate: Candidate, environment: dict[str, str]) -> str:
    """Returns why it failed, or ''."""
    folder = candidate.folder()
    try:
        done = subprocess.run(
            install(folder / "installed"),
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"building took more than {BUILD_LIMIT} s"
    (folder / "build.log").write_text(done.stdout + done.stderr)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stdout.splitlines() if "error" in line.lower()]
    return without_paths(errors[0].strip() if errors else "building failed: see build.log")


def timed(candidate: Candidate, dry_run: bool) -> dict[str, Any]:
    output = SCRATCH / "run.json"
    output.unlink(missing_ok=True)
    command = [sys.executable, str(BENCHMARKS / "tune_one.py"), str(output)]
    if candidate.constant == MOST_BLOCKS:
        command += ["--blocks-per-processor", str(candidate.value)]
    if candidate.constant == TRITON:
        command += ["--triton", json.dumps(TRITON_CANDIDATES[str(candidate.value)])]
    environment = {**os.environ, "PYTHONPATH": str(candidate.folder() / "installed")}
    try:
        done = subprocess.run(
            [*command, *(["--dry-run"] * dry_run)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"timing took more than {RUN_LIMIT} s"}
    if done.returncode or not output.exists():
        said = done.stderr.strip().splitlines()
        return {"error": without_paths(said[-1] if said else f"exit code {done.returncode}")}
    return json.loads(output.read_text())


def shares(found: dict[str, Any]) -> dict[str, float]:
    return {
        case: row["share_of_copy"]
        for case, row in found.get("cases", {}).items()
        if "share_of_copy" in row
    }


def table(constant: str, present: str, runs: dict[str, dict[str, Any]]) -> list[str]:
    """Shares of the copy's rate, a column per value; last, the mean ratio to the present."""
    named = [str(Candidate()), str(Candidate(again=True))]
    named += [name for name in runs if name.startswith(f"{constant}=")]
    problems = [f"  {n}: {runs[n]['error']}" for n in named if runs.get(n, {}).get("error")]
    problems += [
        f"  {n} is wrong in {runs[n]['wrong']}" for n in named if runs.get(n, {}).get("wrong")
    ]
    columns = {n.split("=")[-1]: shares(runs[n]) for n in named if shares(runs.get(n, {}))}
    lines = ["", f"{constant}, now {present}", *problems]
    lines.append(f"{'share of the copy':<32}" + "".join(f"{name:>16}" for name in columns))
    base = columns.get(str(Candidate()), {})
    for case in base:
        cells = [f"{of[case]:.1%}" if case in of else "" for of in columns.values()]
        lines.append(f"{case:<32}" + "".join(f"{cell:>16}" for cell in cells))
    means = []
    for of in columns.values():
        ratios = [math.log(of[case] / base[case]) for case in of if of[case] and base.get(case)]
        means.append(f"{math.exp(sum(ratios) / len(ratios)):.3f}" if ratios else "")
    return [*lines, f"{'mean ratio to the present':<32}" + "".join(f"{m:>16}" for m in means)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = [*CANDIDATES, MOST_BLOCKS, TRITON]
    parser.add_argument(
        "--only",
        nargs="+",
        choices=known,
        default=known,
        metavar="NAME",
        help=f"of {', '.join(known)}; all, if not told",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=BENCHMARKS / "results",
        metavar="FOLDER",
        help="where to write tune-<device>.json",
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args()
    dry_run = arguments.dry_run
    find_toolkit()
    about = examine(dry_run)
    policy = (ROOT / POLICY).read_text()
    present = {MOST_BLOCKS: "unlimited; candidates are blocks per multiprocessor"}
    present[TRITON] = "as in backends/triton; the first two columns are CUDA's"
    candidates = [Candidate()]
    for constant in arguments.only:
        if constant == MOST_BLOCKS:
            candidates += [Candidate(constant, value) for value in BLOCKS_PER_PROCESSOR]
            continue
        if constant == TRITON:
            # Where it cannot run, one that says why is enough.
            names = list(TRITON_CANDIDATES)[: 1 if dry_run else None]
            candidates += [Candidate(constant, name) for name in names]
            continue
        found = re.findall(rf"inline constexpr int {constant} = (\d+);", policy)
        if len(found) != 1:
            raise SystemExit(f"{POLICY} has {len(found)} lines that define {constant}")
        present[constant] = found[0]
        values = [value for value in CANDIDATES[constant] if value != int(found[0])]
        candidates += [Candidate(constant, value) for value in values]

    began = time.monotonic()
    built = {candidate.folder(): candidate for candidate in candidates}
    for candidate in built.values():
        copy_sources(candidate)
    environment = {"SPHERE_FUSED_CUDA": "auto" if dry_run else "1"}
    environment["TORCH_CUDA_ARCH_LIST"] = "9.0" if dry_run else about["capability"]
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // CORES_PER_BUILD)) as pool:
        outcomes = pool.map(lambda candidate: build(candidate, environment), built.values())
        failures = dict(zip(built, outcomes, strict=True))
    print(f"{len(built)} builds took {time.monotonic() - began:.0f} s", flush=True)

    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "environment": about}
    result |= {"dry_run": dry_run, "present": present, "runs": {}}
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = arguments.output / f"tune-{'dry-run' if dry_run else slug_of(about)}.json"
    for candidate in [*candidates, Candidate(again=True)]:
        why_not = failures[candidate.folder()]
        run = {"error": why_not} if why_not else timed(candidate, dry_run)
        result["runs"][str(candidate)] = run
        written.write_text(json.dumps(result, indent=1) + "\n")
        problem = run.get("error") or (run["wrong"] and f"wrong in {run['wrong']}")
        print(f"{candidate}: {problem or 'timed'}", flush=True)
    for constant in arguments.only:
        print("\n".join(table(constant, present[constant], result["runs"])))
    print(f"\nIt took {time.monotonic() - began:.0f} s.")
    return int("error" in result["runs"][str(Candidate())])


if __name__ == "__main__":
    sys.exit(main())
