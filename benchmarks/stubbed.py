"""The Triton backend on CPU tensors, with a GPU that launches nothing: the host's side of steps."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import triton_stub

from sphere_fused.backends import triton as backend


def install(arch: int = 90) -> triton_stub.Driver:
    """From now on Triton compiles for that NVIDIA architecture, for real, and launches nothing."""
    backend.unavailable = lambda device: []
    return triton_stub.install("cuda", arch, 32)
