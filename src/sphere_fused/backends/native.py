"""The compiled backend: C++ on CPUs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sphere_fused import plan as planning  # as a module: tests take its `compiled` away
from sphere_fused.plan import Entry, GroupHyper, Plan

NAME = "native"


def unavailable() -> list[str]:
    if planning.compiled is None:
        return [
            f"the compiled module is missing: {planning.compiled_import_error} (it is built by "
            "`pip install .` with a C++20 compiler and without SPHERE_FUSED_NATIVE=0)"
        ]
    return []


def reasons(entry: Entry) -> list[str]:
    if planning.compiled is None:
        return unavailable()
    found = []
    if entry.param.device.type != "cpu":
        found.append(f"it has no kernels for {entry.param.device.type} tensors yet")
    if entry.geometry is None:
        found.append(
            f"shape {tuple(entry.param.shape)} with strides {entry.param.stride()} and "
            f"channel_dims {entry.channel_dims} does not lie in memory as blocks of segments"
        )
    if entry.rule.name not in planning.compiled.RULES:
        found.append(f"the rule '{entry.rule.name}' is not compiled in")
    return found


def prepare(plan: Plan, indices: list[int]) -> Callable[[list[GroupHyper]], None]:
    plan.native.claim(indices)
    return lambda hypers: plan.native.step(hypers, torch.get_num_threads())
