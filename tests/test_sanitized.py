"""The compiled module for CPUs under AddressSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simt import build

import sphere_fused

HERE = Path(__file__).parent
RANDOM = """
import configurations, torch
from sphere_fused import plan
torch.set_num_threads(1)
for name in plan.compiled.instruction_sets():
    plan.compiled.use_instruction_set(name)
    for number in range(12):
        configurations.check(number, "native")
"""


def sanitized_package(folder: Path) -> Path:
    """Builds the module as setup.py does, but for the sanitizer, beside a copy of the package."""
    environment = {
        **os.environ,
        "CXX": "g++ -fsanitize=address",
        # Checks by calls, not inline: compiling is what takes long here.
        "CXXFLAGS": "-O1 -g1 --param asan-instrumentation-with-call-threshold=0",
        "SPHERE_FUSED_CUDA": "0",
    }
    shutil.copytree(
        Path(sphere_fused.__file__).parent,
        folder / "sphere_fused",
        ignore=shutil.ignore_patterns("_native*", "__pycache__"),
    )
    command = ["setup.py", "-q", "build_ext", "--build-lib", str(folder)]
    command += ["--build-temp", str(folder / "objects")]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=HERE.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_step_leaves_its_memory(tmp_path: Path) -> None:
    """Random configurations, whose tensors have exactly the memory that they need."""
    if reason := build.unavailable("asan"):
        pytest.skip(reason)
    for needed in ("setuptools", "pybind11", "ninja"):
        pytest.importorskip(needed, reason=f"the module is built with {needed}")
    runtime = ["g++", "-print-file-name=libasan.so"]
    library = subprocess.run(runtime, capture_output=True, text=True).stdout.strip()
    folder = sanitized_package(tmp_path)
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(folder), str(HERE)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", RANDOM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
