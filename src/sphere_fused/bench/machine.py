"""What the machine is, for results."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import torch

import sphere_fused
from sphere_fused import plan
from sphere_fused.bench.peers import PEERS, version

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cache_bytes(device: str) -> int | None:
    """Of the largest cache, or None where that is not told."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).L2_cache_size
    told = [path.read_text().strip() for path in CACHES.glob("index*/size")]
    sizes = [int(text[:-1]) * UNITS[text[-1]] for text in told if text[-1:] in UNITS]
    return max(sizes, default=None)


def about(device: str) -> dict[str, Any]:
    threads = torch.get_num_threads()
    name = f"{processor()}, {threads} thread{'s' * (threads > 1)}"
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else name,
        "cache_bytes": cache_bytes(device),
        "instruction_sets": plan.compiled.instruction_sets() if plan.compiled else None,
        "torch": torch.__version__,
        "sphere_fused": sphere_fused.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "packages": {PEERS[name].package: version(name) for name in PEERS},
    }
