"""The Triton backend: its place; there is no kernel yet."""

from __future__ import annotations

from sphere_fused.plan import Entry

NAME = "triton"


def unavailable() -> list[str]:
    return ["the Triton kernels are not written yet"]


def reasons(entry: Entry) -> list[str]:
    return unavailable()
