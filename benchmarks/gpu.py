"""`make gpu`: builds for the GPU that is here, tests, times, profiles and checks; in ten minutes.

It uses the torch and the compilers that are installed, and no network. The package is installed
into build/gpu. Every phase is a process of its own with a time limit; its output goes to a log, and
the outcome to FOLDER/<device>.json, after every phase, so that what is known survives a failure.
`--dry-run` does all of it on the CPU, where no GPU is, with tiny shapes.

    python benchmarks/gpu.py [--output FOLDER] [--dry-run]
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

BENCHMARKS = Path(__file__).parent.resolve()
ROOT = BENCHMARKS.parent
TARGET = ROOT / "build" / "gpu"
BUDGET = 570.0  # seconds in all
SANITIZERS = {"memcheck": ["--report-api-errors", "no"], "racecheck": [], "initcheck": []}
EVIDENCE = 5000  # characters of a failure's output in the result


class Phase(NamedTuple):
    """limit: seconds. ours: whether its failure is one of this project."""

    name: str
    limit: float
    command: list[str]
    environment: Mapping[str, str] = MappingProxyType({})
    skip: str = ""
    ours: bool = True


def install(target: Path) -> list[str]:
    """The command that builds the package of the working folder into `target`."""
    options = ["-v", "--no-build-isolation", "--no-deps", "--no-index", "--upgrade"]
    options += ["--disable-pip-version-check", "--target", str(target), "."]
    return [sys.executable, "-m", "pip", "install", *options]


def slug_of(about: dict[str, Any]) -> str:
    """What files of results from here are called."""
    return re.sub(r"[^a-z0-9]+", "-", about["device"].lower()).strip("-")


def phases(about: dict[str, Any], scratch: Path, dry_run: bool) -> list[Phase]:
    python, device = sys.executable, "cpu" if dry_run else "cuda"
    build = {"SPHERE_FUSED_CUDA": "auto" if dry_run else "1"}
    build["TORCH_CUDA_ARCH_LIST"] = "9.0" if dry_run else about["capability"]
    sanitizer = shutil.which("compute-sanitizer")
    script = [python, str(BENCHMARKS / "sanitize.py"), "--device", device]
    checks = []
    for name, options in SANITIZERS.items():
        prefix = [str(sanitizer), "--tool", name, "--error-exitcode", "1", *options]
        checks.append(
            Phase(
                name,
                90,
                script if dry_run else [*prefix, *script],
                # Every tensor an allocation of its own, so that its bounds are known.
                {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
                skip="" if sanitizer or dry_run else "compute-sanitizer is not on PATH",
            )
        )
    pytest = [python, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", "--tb=short"]
    pytest += ["-o", "faulthandler_timeout=60"]
    tests = [*pytest, "tests/test_cuda.py", "tests/test_cuda_graphs.py", "-k"]
    bench = [python, "-m", "sphere_fused", "bench", "--device", device]
    tiny = ["--dry-run"] if dry_run else []
    # The oracles' small tensors: many threads would only wait for each other.
    one_thread = {"OMP_NUM_THREADS": "1"}
    of_tests = {"SPHERE_FUSED_TEST_DEVICE": device, **one_thread}
    no_triton = "" if about["triton"] else "Triton is not installed"
    if dry_run:
        no_triton = "on a CPU it runs in Triton's interpreter only, which takes too long"
    return [
        Phase("build", 200, install(TARGET), build),
        Phase("info", 30, [python, "-m", "sphere_fused", "info"]),
        Phase("tests", 200, [*tests, "not triton"], of_tests),
        Phase("benchmark", 200, [*bench, "--json", str(scratch / "benchmark.json"), *tiny]),
        # After the times: it compiles some 60 kernels, one after the other.
        Phase("triton", 120, [*tests, "triton"], of_tests, skip=no_triton),
        Phase(
            "profile",
            90,
            [python, str(BENCHMARKS / "profile_kernels.py"), str(scratch / "profile.json"), *tiny],
            ours=False,
        ),
        *checks,
        Phase("selftest", 90, [python, "-m", "sphere_fused", "selftest"], one_thread),
        # Last, because nobody knows how long inductor takes.
        Phase("training", 90, [*pytest, "tests/test_cuda_training.py"], of_tests),
        Phase(
            "compiled",
            90,
            [*bench, "--suite", "compiled", "--json", str(scratch / "compiled.json"), *tiny],
            ours=False,
        ),
    ]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a phase and what it has started: politely, so that pytest still tells what it knows."""
    for sent, patience in ((signal.SIGINT, 5), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sent)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return


def run(phase: Phase, limit: float, log: Path) -> dict[str, Any]:
    """Run a phase; returns its outcome. Its output is appended to `log`."""
    paths = [str(TARGET), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **phase.environment,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "TRITON_CACHE_DIR": str(ROOT / "build" / "triton"),  # what one phase compiles others find
    }
    with log.open("a") as file:
        file.write(f"\n===== {phase.name}: {' '.join(phase.command)}\n")
        start = file.tell()
        began = time.monotonic()
        process = subprocess.Popen(
            phase.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = "passed" if process.wait(limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            if process.poll() is None:
                stop(process)
    outcome: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - began, 1)}
    with log.open("rb") as read:
        read.seek(start)
        output = without_paths(read.read().decode(errors="replace"))
    if status == "timed out":
        outcome["note"] = f"stopped after {limit:.0f} s"
    elif status == "failed":
        outcome["note"] = f"exit code {process.returncode}"
    return judged(phase, outcome, output)


def judged(phase: Phase, outcome: dict[str, Any], output: str) -> dict[str, Any]:
    """`outcome`, with what the output of this phase tells."""
    lines = output.strip().splitlines()
    if phase.name in ("tests", "triton"):
        summaries = [line for line in lines if re.search(r"\d+ \w+.* in [\d.]+s", line)]
        last = summaries[-1] if summaries else ""
        counts = {what: int(n) for n, what in re.findall(r"(\d+) ([a-z]+)", last.split(" in ")[0])}
        outcome["counts"] = counts
        outcome["skipped"] = [line for line in lines if line.startswith("SKIPPED")]
        if outcome["status"] != "timed out":
            outcome["note"] = last.strip("= ") or outcome.get("note", "no summary")
        if outcome["status"] == "passed" and not counts.get("passed"):
            outcome.update(status="failed", note="no test ran")
    if phase.name == "info":
        outcome["output"] = lines
    if phase.name == "selftest" and outcome["status"] == "passed":
        outcome["note"] = lines[-1] if lines else "no output"
    if phase.name == "profile" and lines and lines[-1].startswith("skipped: "):
        outcome.update(status="skipped", note=lines[-1].removeprefix("skipped: "))
    if phase.name in SANITIZERS and "Device not supported" in output:
        outcome.update(status="skipped", note="compute-sanitizer: Device not supported")
    if outcome["status"] in ("failed", "timed out"):
        outcome["evidence"] = evidence(output)
        outcome["note"] += "" if phase.ours else "; this does not count"
    return outcome


def evidence(output: str) -> str:
    """What to read first of a failure: where pytest's begin, and the end."""
    if len(output) <= EVIDENCE:
        return output
    start = output.find("= FAILURES =")
    if start < 0:
        return output[-EVIDENCE:]
    half = EVIDENCE // 2
    return f"{output[start : start + half]}\n...\n{output[-half:]}"


def without_paths(text: str) -> str:
    """Results are published: no folders of this machine in them."""
    for folder, name in ((ROOT, "."), (sys.prefix, "PREFIX"), (Path.home(), "HOME")):
        if len(str(folder)) > 1:
            text = text.replace(str(folder), name)
    return text


def find_toolkit() -> None:
    """Put the programs of CUDA on PATH, where nobody has."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    profilers = sorted(glob.glob("/opt/nvidia/nsight-compute/*"), reverse=True)  # newest first
    path = [os.environ.get("PATH", os.defpath), f"{home}/bin", *profilers]
    os.environ["PATH"] = os.pathsep.join(path)


def examine(dry_run: bool) -> dict[str, Any]:
    """What is here; exits with the reason if it will not do."""
    command = [sys.executable, str(BENCHMARKS / "environment.py"), *(["--dry-run"] * dry_run)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        raise SystemExit("make gpu gave up: torch did not find its GPU within 180 s") from None
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results", metavar="FOLDER")
    parser.add_argument("--dry-run", action="store_true", help="all of it on the CPU, tiny")
    arguments = parser.parse_args()
    end = time.monotonic() + BUDGET
    find_toolkit()
    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "phases": {}}
    if arguments.dry_run:
        result["dry_run"] = True
    result["environment"] = about = examine(arguments.dry_run)
    # Now that torch is known to be here, without which the package cannot be imported.
    sys.path.insert(0, str(ROOT / "src"))
    from sphere_fused.bench import report, targets

    name = "dry-run" if arguments.dry_run else slug_of(about)
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(TARGET, ignore_errors=True)  # no older build may pass for this one
    scratch = ROOT / "build" / "gpu-results"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    log = folder / f"{name}.log"
    log.write_text("")
    failed = False
    for phase in phases(about, scratch, arguments.dry_run):
        limit = min(phase.limit, end - time.monotonic())
        built = phase.name == "build" or result["phases"]["build"]["status"] == "passed"
        skip = phase.skip or ("" if built else "the build failed")
        if not skip and limit < 5:
            skip = "no time is left"
        if skip:
            outcome = {"status": "skipped", "seconds": 0.0, "note": skip}
        else:
            outcome = run(phase, limit, log)
        bad = outcome["status"] in ("failed", "timed out")
        failed |= bad and phase.ours
        result["phases"][phase.name] = outcome
        written = scratch / f"{phase.name}.json"
        if written.exists():
            result[phase.name] = json.loads(without_paths(written.read_text()))
        result["targets"] = targets.judge(report.sections_of(result), "cuda")
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"{phase.name} {outcome['status']}: {outcome.get('note', '')}", flush=True)
        if bad:
            print(outcome["evidence"], flush=True)
    print(report.text(result))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
