"""What Triton makes of the kernels for GPUs that are not here, in several versions from 3.4 on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_own_rules import RULES, namesakes

from sphere_fused.backends import triton

if triton.installed():
    pytest.skip(triton.installed(), allow_module_level=True)

import triton as installed

TESTS = Path(__file__).parent
# Besides the one that is installed, which is the newest: the oldest, and the first with AMD.
VERSIONS = ["3.4.0", "3.6.0"]
# Three programs of 128 threads share the 65,536 registers of a multiprocessor.
MOST_REGISTERS = {"float32": 144, "bfloat16": 144, "float16": 144, "float64": 168}
# Of 7 kinds of tensor, at least three reads and two writes of 16 bytes each; half where some of
# the numbers take 2 bytes.
FEWEST_WIDE = {"float32": 50, "bfloat16": 30, "float16": 30, "float64": 50}
OLDEST_FOR_AMD = (3, 6)


def run(script: str, *arguments: str, cache: Path, version: Path | None = None) -> str:
    """Run a script of this folder where Triton compiles; nothing may be printed as a warning."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    paths = [str(version)] if version else []
    paths += [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "TRITON_CACHE_DIR": str(cache)}
    filters = ["error::DeprecationWarning:sphere_fused", "ignore:weight_decay does nothing"]
    command = [sys.executable, *(f"-W{f}" for f in filters), script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == "", "a warning at import or first step"
    return done.stdout


def compiled(jobs: list[list[Any]], cache: Path, version: Path | None = None) -> Iterator[Any]:
    printed = run("triton_compile.py", json.dumps(jobs), cache=cache, version=version)
    yield from map(json.loads, printed.splitlines())


def check(row: dict[str, Any]) -> None:
    _, dtype, target, _ = row["job"]
    for kernel in row["kernels"]:
        # The assembler of Triton 3.4 reserves 8 bytes that nothing touches.
        assert kernel["stack"] <= 8, "something is spilled"
        assert target == "hip" or kernel["registers"] <= MOST_REGISTERS[dtype]
        if row["shapes"] == "wide" and kernel["name"] == "step_all":
            assert kernel["wide"] >= FEWEST_WIDE[dtype]
    if dtype in ("bfloat16", "float16"):
        assert row["rounds"], "numbers are cut off where they should be rounded"


@pytest.mark.parametrize("name", ["AdamG", "RotationalAdamW"])
def test_every_kind_of_shape(name: str, tmp_path: Path) -> None:
    """For the directions of x that hold and sum most."""
    rows = list(compiled([[name, "float32", "cuda", 90]], tmp_path))
    assert len(rows) == 4
    for row in rows:
        check(row)


def test_every_rule_and_dtype_and_architecture(tmp_path: Path) -> None:
    # Those that hold the most; narrow ones where it is not only the rule that is another.
    names = ("SGDMRT", "RotationalLion", "AdamH")
    jobs = [[name, "float32", "cuda", 90, "wide"] for name in names]
    jobs += [["RotationalAdamW", dtype, "cuda", 90, "wide"] for dtype in ("bfloat16", "float64")]
    jobs += [["AdamSRT", dtype, "cuda", 90, "wide", "narrow"] for dtype in ("bfloat16", "float64")]
    jobs += [["AdamSRT", "float16", "cuda", 90, "wide"]]
    jobs += [["AdamSRT", "float32", "cuda", arch, "wide"] for arch in (80, 100)]
    jobs += [["AdamSRT", "float32", "hip", "gfx942", "wide", "narrow"]]
    rows = list(compiled(jobs, tmp_path))
    assert len(rows) == 14
    for row in rows:
        check(row)


def test_the_first_step_compiles_two_kernels_and_says_so(tmp_path: Path) -> None:
    (row,) = compiled([["AdamSRT", "float32", "cuda", 90, "wide"]], tmp_path)
    assert row["loaded"] == ["begin", "step_all"]
    assert row["launches"] == 4  # of two steps
    said = [m for m in row["messages"] if "Triton's kernel" in m]
    assert [m.split()[2] for m in said] == ["begin", "step_all"]


def test_surveys_read_what_they_need(tmp_path: Path) -> None:
    """w and g before the verdict, and m and v too after it; six launches, whatever the tensors."""
    jobs = [["AdamP", "float32", "cuda", 90, "wide", "columns"]]
    jobs += [["SGDP", "bfloat16", "cuda", 90, "wide"]]
    for row in compiled(jobs, tmp_path):
        check(row)
        assert row["loaded"] == ["begin", "survey", "judge", "survey", "judge", "step_all"]
        assert row["launches"] == 2 * 6
        before, after = (k["wide"] for k in row["kernels"] if k["name"] == "survey")
        if row["job"][0] == "AdamP":
            assert 0 < before == after / 2


def check_own_rules(cache: Path, version: Path | None = None) -> None:
    rules = len(RULES) + 1 + len(namesakes())
    assert int(run("own_rules_compile.py", cache=cache, version=version)) == rules


def test_own_rules(tmp_path: Path) -> None:
    check_own_rules(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_other_versions(version: str, tmp_path: Path) -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip(f"there is no Triton {version} for {platform.system()} {platform.machine()}")
    if installed.__version__.startswith(version.rsplit(".", 1)[0]):
        pytest.skip(f"Triton {installed.__version__} is installed, and the other tests are of it")
    folder = tmp_path / "triton"
    fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    done = subprocess.run(
        [*fetch, str(folder), f"triton=={version}"], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"pip cannot fetch Triton {version}: {done.stderr.strip()[-200:]}")
    jobs = [["AdamSRT", "float32", "cuda", 80, "wide"]]
    jobs += [["AdamSRT", "float32", "cuda", 90, "narrow", "columns", "parts"]]
    if version == VERSIONS[0]:
        jobs.append(["AdamP", "float32", "cuda", 80, "wide"])
    if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_FOR_AMD:
        jobs.append(["AdamSRT", "float32", "hip", "gfx942", "wide"])
    for row in compiled(jobs, tmp_path / "cache", folder):
        check(row)
    if version == VERSIONS[0]:
        check_own_rules(tmp_path / "cache", folder)
    run("triton_interpret.py", version, cache=tmp_path / "cache", version=folder)
