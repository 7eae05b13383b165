"""The host's side of the Triton backend: what a step sends to the device, and its launches."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import torch

from sphere_fused.backends.triton.layout import Layout
from sphere_fused.entry import DTYPES, Entry
from sphere_fused.hyper import GroupHyper, placed
from sphere_fused.plan import Plan, check_capture

# What steps in CUDA graphs read, kept because a graph may be replayed at any time.
_captured: list[Any] = []


def is_aligned(entry: Entry) -> bool:
    at = entry.addresses()
    return all(at[key] % 16 == 0 for key in ("w", "m", "v"))


def packed(hyper: Any) -> tuple[bytes, bytes]:
    """A group's numbers and addresses as the kernels read them."""

    def split(value: Any, number: float) -> tuple[float, int, bool]:
        return (number, *value) if isinstance(value, tuple) else (value, 0, False)

    lr, lr_at, is_double = split(hyper.lr, 0.0)
    scale, scale_at, _ = split(hyper.grad_scale, 1.0)
    _, found_inf_at, _ = split(hyper.found_inf, 0.0)
    numbers = (
        lr,
        hyper.beta1,
        1.0 - hyper.beta1,
        hyper.gain1,
        hyper.beta2,
        1.0 - hyper.beta2,
        hyper.beta3,
        1.0 - hyper.beta3,
        hyper.eps,
        hyper.weight_decay,
        float(hyper.decoupled),
        hyper.grad_clip,
        hyper.ahead_m,
        hyper.ahead_g,
        float(hyper.corrects),
        float(hyper.maximize),
        scale,
        *hyper.own,
    )
    places = (0 if is_double else lr_at, lr_at if is_double else 0, scale_at, found_inf_at)
    return struct.pack(f"={len(numbers)}d", *numbers), struct.pack("=4q", *places)


class Steps:
    """The steps of a plan's entries on one device."""

    def __init__(self, plan: Plan, device: torch.device, indices: list[int]) -> None:
        self._plan, self._device, self._indices = plan, device, np.array(indices)
        self._entries = [plan.entries[i] for i in indices]
        self._capturable = all(e.capturable for e in self._entries)
        # Of the gradients, or, of those not yet seen, most likely.
        self._types = np.array([DTYPES.index(e.param.dtype) for e in self._entries], np.int8)
        self._aligned = np.array([is_aligned(e) for e in self._entries])
        self._seen: tuple[bytes, bytes] | None = None
        self._at = self._how = b""  # where they are; their dtypes, and who is aligned
        self._key: tuple[bytes, int] | None = None
        self._layout: Layout
        self._sent = b""
        self._was_captured = False
        self._stream: torch.cuda.Stream | None = None
        # Pinned memory cannot be had inside of a capture.
        self._spare: torch.Tensor | None = None
        self._pinned: dict[bytes, torch.Tensor] = {}  # by what is in it

    def __call__(self, hypers: list[GroupHyper]) -> None:
        if self._device.type == "cpu":
            self._step(hypers, capturing=False)
            return
        with torch.cuda.device(self._device):
            capturing = torch.cuda.is_current_stream_capturing()
            self._step(hypers, capturing)
            stream = torch.cuda.current_stream()
            if self._capturable and self._spare is None and not capturing:
                self._spare = torch.empty_like(self._layout.changing, device="cpu", pin_memory=True)
            if stream != self._stream and not capturing:
                # Its memory must not be handed out again while a step is still on that stream.
                for tensor in self._layout.tensors:
                    tensor.record_stream(stream)
                self._stream = stream

    def _step(self, hypers: list[GroupHyper], capturing: bool) -> None:
        self._look_at_gradients()
        key = self._how, len(hypers)
        if capturing:
            check_capture(self._capturable, key == self._key)
        elif key != self._key:
            own = hypers[0].own._fields
            self._layout = Layout(
                self._entries, self._types, self._aligned, len(hypers), own, self._device
            )
            self._key, self._sent, self._stream = key, b"", None
            self._spare, self._pinned = None, {}
        with_addresses, _held = placed(hypers, self._device)
        groups = [packed(hyper) for hyper in with_addresses]
        self._send(b"".join(itertools.chain([self._at], *zip(*groups, strict=True))), capturing)
        for launch in self._layout.launches:
            launch()

    def _look_at_gradients(self) -> None:
        seen = self._plan.gradients()
        if seen == self._seen:
            return
        at = np.frombuffer(seen[0], np.int64)[self._indices]
        types = np.frombuffer(seen[1], np.int8)[self._indices]
        self._types = np.where(at != 0, types, self._types)
        # For good, so that addresses that come and go do not make a new layout each time.
        self._aligned = self._aligned & (at % 16 == 0)
        self._seen, self._at = seen, at.tobytes()
        self._how = self._types.tobytes() + self._aligned.tobytes()

    def _send(self, data: bytes, capturing: bool) -> None:
        if data == self._sent and not (capturing or self._was_captured):
            return
        host = torch.frombuffer(bytearray(data), dtype=torch.int64)
        if capturing:
            host = self._kept(data, host)
        # From memory that is not pinned this returns once the host's side is read.
        self._layout.changing.copy_(host, non_blocking=True)
        self._sent = data

    def _kept(self, data: bytes, host: torch.Tensor) -> torch.Tensor:
        """What is to be sent at every replay, which later steps cannot know of."""
        if data not in self._pinned:
            check_capture(self._capturable, self._spare is not None)
            assert self._spare is not None
            self._pinned[data], self._spare = self._spare.copy_(host), None
        self._was_captured = True
        _captured.append((self._layout, self._pinned[data]))
        return self._pinned[data]
