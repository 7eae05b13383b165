"""The Triton backend: any rule, on the GPUs that Triton knows, with no compiler to install.

On a CPU it runs in Triton's interpreter, for tests.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable

import torch

from sphere_fused.entry import Entry
from sphere_fused.hyper import GroupHyper
from sphere_fused.plan import Plan

NAME = "triton"
OLDEST = (3, 4)
OLDEST_GPU = (8, 0)


@functools.cache
def installed() -> str:
    """What is wrong with the Triton here, or ''."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    version = importlib.import_module("triton").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return f"Triton {version} is too old: {'.'.join(map(str, OLDEST))} or newer is needed"
    return ""


def interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def unavailable(device: torch.device) -> list[str]:
    if device.type not in ("cpu", "cuda"):
        return [f"it has not been tried on {device.type} tensors"]
    if device.type == "cpu" and not interpreted():
        return ["on a CPU it runs in Triton's interpreter only: set TRITON_INTERPRET=1 to test"]
    if device.type == "cuda" and not torch.cuda.is_available():
        return [f"torch {torch.__version__} finds no GPU"]
    if device.type == "cuda" and interpreted():
        return ["Triton's interpreter cannot read a GPU's memory: unset TRITON_INTERPRET"]
    if installed():
        return [installed()]
    if device.type == "cuda" and torch.version.hip is None:
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST_GPU:
            return [f"Triton compiles for compute capability 8.0 or newer, not {capability}"]
    return []


def reasons(entry: Entry) -> list[str]:
    found = unavailable(entry.param.device)
    if entry.geometry is None:
        found.append(
            f"shape {tuple(entry.param.shape)} with strides {entry.param.stride()} and segments "
            f"over dims {entry.inside} does not lie in memory as blocks of segments"
        )
    if entry.param.is_cpu and NAME not in entry.allowed[:1]:
        found.append("its interpreter is for tests: ask for it with backend='triton'")
    return found


def prepare(plan: Plan, indices: list[int]) -> Callable[[list[GroupHyper]], None]:
    # Imported when first needed: Triton takes a while, and not everybody has it.
    steps = importlib.import_module("sphere_fused.backends.triton.steps")
    by_device: dict[torch.device, list[int]] = {}
    for i in indices:
        by_device.setdefault(plan.entries[i].param.device, []).append(i)
    runs = [steps.Steps(plan, device, members) for device, members in by_device.items()]

    def run(hypers: list[GroupHyper]) -> None:
        for each in runs:
            each(hypers)

    return run
