"""Prints, as JSON, what `make gpu` runs on; fails with one sentence where there is no GPU."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata


def said(*command: str) -> str | None:
    """The last line that `command` prints, or None where it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[-1] if lines and done.returncode == 0 else None


NEEDED = ("setuptools", "pybind11", "ninja", "pytest")  # to build and test, without a network


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def main() -> str | None:
    try:
        import torch
    except ImportError as error:
        return f"make gpu needs a Python with torch, and {sys.executable} has none: {error}"
    missing = [name for name in NEEDED if version(name) is None]
    if missing:
        return f"make gpu needs {', '.join(missing)} beside torch: pip install {' '.join(missing)}"
    # Whoever owns the files: they may be mounted into a container.
    git = ("git", "-c", "safe.directory=*")
    commit = said(*git, "rev-parse", "--short=12", "HEAD")
    told = {
        "torch": torch.__version__,
        "triton": version("triton"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "setuptools": version("setuptools"),
        "pybind11": version("pybind11"),
        "ninja": version("ninja"),
        "nvcc": said("nvcc", "--version"),
        "compute_sanitizer": said("compute-sanitizer", "--version"),
        "ncu": said("ncu", "--version"),
        "commit": commit,
        "uncommitted_code": commit and bool(said(*git, "status", "--porcelain", "csrc", "src")),
    }
    if "--dry-run" in sys.argv:
        print(json.dumps({"device": "cpu", "capability": None, "driver": None, **told}))
        return None
    if not torch.cuda.is_available():
        return (
            f"make gpu needs an NVIDIA GPU that torch can use, and torch {torch.__version__} finds "
            f"none here (torch.cuda.is_available() is false)."
        )
    properties = torch.cuda.get_device_properties(0)
    device = {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "L2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
        "driver": said(
            "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"
        ),
        "cuda_of_torch": torch.version.cuda,
    }
    print(json.dumps({**device, **told}))
    return None


if __name__ == "__main__":
    sys.exit(main())
