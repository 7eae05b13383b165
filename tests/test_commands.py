"""The command line, as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphere_fused", *arguments]
    # Not with Triton's interpreter, which takes minutes.
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


def test_info_names_every_backend(tmp_path: Path) -> None:
    done = call("info", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("native", "triton", "reference"):
        assert f"backend {name}" in done.stdout
    assert "built: compiler" in done.stdout
    assert "built: CUDA" in done.stdout
    # Whether or not the kernels were built, and a driver is there.
    assert "  on GPUs" in done.stdout


def test_selftest_passes(tmp_path: Path) -> None:
    done = call("selftest", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all within what is allowed" in done.stdout


def test_an_unknown_command_is_explained(tmp_path: Path) -> None:
    done = call("sing", cwd=tmp_path)
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert "selftest" in done.stderr


def test_demo_trains_and_draws(tmp_path: Path) -> None:
    done = call("demo", "--quick", "--output", "figure.png", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AdamSRT" in done.stdout
    assert (tmp_path / "figure.png").stat().st_size > 10_000
