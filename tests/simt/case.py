"""The files of tests/simt/run.cpp: what to step, and where it ended.

A case is int64 and float64 numbers and raw tensors: how many parameters, groups and steps, the most
blocks of a grid, and the size of an lr in the device's memory; the mode of each step; a GroupHyper
per step and group; and per parameter its Segments, then w, m, v, s, radius and step, then a
gradient per step, each as offset and size in bytes (0 for none) and its bytes. A result is w, m, v,
s, radius and step of every parameter.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sphere_fused.entry import DTYPES, Entry
from sphere_fused.hyper import GroupHyper
from sphere_fused.optim import RULES
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.plan import Plan

MODES = ["step", "capture", "replay"]  # as in run.cpp
RULE_KEYS = [rule.key for rule in RULES]
MOST_OWN = 4  # as in plan.h


def memory_order(t: Tensor) -> Tensor:
    """The elements of a dense tensor as they lie in memory."""
    return t.as_strided((t.numel(),), (1,))


def raw(t: Tensor | None) -> bytes:
    return b"" if t is None else memory_order(t).view(torch.uint8).numpy().tobytes()


def numbers_of(hyper: GroupHyper) -> list[float]:
    at = GroupHyper._fields.index("own")
    own = [*hyper.own, *[0.0] * (MOST_OWN - len(hyper.own))]
    return [*hyper[:at], *own, *hyper[at + 1 :]]


def state_of(e: Entry) -> list[tuple[str, Tensor | None]]:
    """m, v, s, radius and step with their keys; None for what is not kept."""
    by_element = e.rule.second_moment == "element"
    keys = [e.moment_key, "exp_avg_sq" if by_element else "", e.rule.state_key or ""]
    return [(key, e.state.get(key)) for key in (*keys, "radius", "step")]


class Case:
    """What `optimizer` would do in its next steps, for the kernels to do.

    Args:
        grads: per step, a gradient or None for each parameter with elements, laid out like it.
        hypers: per step, a GroupHyper for each group; the optimizer's own if None.
        offsets: bytes by which w, g, and the moments of every parameter are moved from an aligned
            address.
        most_blocks: of one launch.
        modes: per step, "step", "capture" (into a graph, which is then replayed), or "replay" (that
            graph, with the gradients where the captured ones were).
        lr_dtype: of an lr that lies on the device, as grad_scale and found_inf then do.
    """

    def __init__(
        self,
        optimizer: SphereOptimizer,
        grads: Sequence[Sequence[Tensor | None]],
        hypers: Sequence[Sequence[GroupHyper]] | None = None,
        offsets: tuple[int, int, int] = (0, 0, 0),
        most_blocks: int = 2**31 - 1,
        modes: Sequence[str] | None = None,
        lr_dtype: torch.dtype | None = None,
    ) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for p, g in zip(params, grads[0], strict=True):
            p.grad = torch.zeros_like(p) if g is None else g  # the plan must know them all
        self.entries: list[Entry] = Plan(
            optimizer._entries(), optimizer.state, optimizer.param_groups
        ).entries
        if hypers is None:
            hypers = [[optimizer.hyper(group) for group in optimizer.param_groups]] * len(grads)
        lr_bytes = 0 if lr_dtype is None else lr_dtype.itemsize
        sizes = [len(params), len(hypers[0]), len(grads), most_blocks, lr_bytes]
        numbers = [MODES.index(mode) for mode in modes or ["step"] * len(grads)]
        parts = [struct.pack(f"<{5 + len(grads)}q", *sizes, *numbers)]
        for of_step in hypers:
            for group in of_step:
                values = numbers_of(group)
                parts.append(struct.pack(f"<{len(values)}d", *values))
        for i, e in enumerate(self.entries):
            of_entry = [of_gradients[i] for of_gradients in grads]
            assert e.geometry is not None
            numbers = [*e.geometry, e.group, RULE_KEYS.index(e.rule.key)]
            grad_dtype = next((g.dtype for g in of_entry if g is not None), e.param.dtype)
            numbers += [DTYPES.index(e.param.dtype), DTYPES.index(grad_dtype)]
            numbers.append(int(e.elementwise))
            parts.append(struct.pack("<8q", *numbers))
            of_w, of_g, of_m = offsets
            m, v, *others = (tensor for _, tensor in state_of(e))
            places = [(of_w, e.param), (of_m, m), (of_m, v), *((0, t) for t in others)]
            places += [(of_g, g) for g in of_entry]
            for offset, tensor in places:
                held = raw(tensor)
                parts += [struct.pack("<2q", offset if held else 0, len(held)), held]
        self.content = b"".join(parts)

    def results(self, path: Path) -> list[tuple[Tensor, dict[str, Any]]]:
        """Every parameter and its state, as the result file has them."""
        content, at = path.read_bytes(), 0
        found = []

        def next_like(t: Tensor) -> Tensor:
            nonlocal at
            size = t.numel() * t.element_size()
            bits = torch.frombuffer(bytearray(content[at : at + size]), dtype=t.dtype)
            at += size
            return bits.as_strided(t.shape, t.stride())

        for e in self.entries:
            param = next_like(e.param)
            found.append((param, {k: next_like(t) for k, t in state_of(e) if t is not None}))
        assert at == len(content)
        return found
