"""The Triton backend: its place; there is no kernel yet."""

from __future__ import annotations

import torch

from sphere_fused.plan import Entry

NAME = "triton"


def unavailable(device: torch.device) -> list[str]:
    return ["the Triton kernels are not written yet"]


def reasons(entry: Entry) -> list[str]:
    return unavailable(entry.param.device)
