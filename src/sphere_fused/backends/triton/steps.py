"""The host's side of the Triton backend: tables on the device, a list of work, two launches."""

from __future__ import annotations

import itertools
import logging
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from sphere_fused.backends.triton import begin as tables
from sphere_fused.backends.triton import kernels, shapes
from sphere_fused.backends.triton.moves import bound, hyper_of
from sphere_fused.plan import DTYPES, Entry, GroupHyper, Plan, check_capture, placed
from sphere_fused.rule import Rule

log = logging.getLogger("sphere_fused")
# What steps in CUDA graphs read, kept because a graph may be replayed at any time.
_captured: list[Any] = []


THREADS = 128
# On NVIDIA GPUs, where three programs then fit on a multiprocessor; Triton 3.8 spills at 128, with
# which four would. Triton would take a
# few more than it needs.
REGISTERS = {4: 144, 8: 168}
BEGIN_BLOCK = 128
SUMS_OF_PART = 7
TYPES = dict(zip(DTYPES, (tl.float32, tl.float64, tl.bfloat16, tl.float16), strict=True))


def addresses(entry: Entry) -> tuple[int, int, int, int]:
    """Of w, m, v and step; 0 for those that are not kept."""
    at = {key: tensor.data_ptr() for key, tensor in entry.state_tensors()}
    m = at.get(entry.moment_key, 0) if entry.keeps_moment else 0
    return entry.param.data_ptr(), m, at.get("exp_avg_sq", 0), at.get("step", 0)


def is_aligned(entry: Entry) -> bool:
    w, m, v, _ = addresses(entry)
    return w % 16 == 0 and m % 16 == 0 and (v % 16 == 0 or entry.rule.second_moment == "segment")


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
        hyper.eps,
        hyper.weight_decay,
        float(hyper.decoupled),
        hyper.grad_clip,
        scale,
        *hyper.own,
    )
    places = (0 if is_double else lr_at, lr_at if is_double else 0, scale_at, found_inf_at)
    return struct.pack(f"={len(numbers)}d", *numbers), struct.pack("=4q", *places)


class Launch:
    """A kernel with its arguments, to be launched again and again."""

    def __init__(
        self, kernel: Any, programs: int, size: int, *arguments: Any, rules: Sequence[str] = ()
    ) -> None:
        self._arguments, grid = arguments, (programs, 1, 1)
        if not isinstance(kernel, triton.JITFunction):
            self._launch = kernel[grid]  # interpreted
            return
        start = time.perf_counter()
        target = triton.runtime.driver.active.get_current_target()
        warp = target.warp_size
        options = {"num_warps": THREADS // warp, "enable_fp_fusion": True}
        if isinstance(target.arch, int):
            options["maxnreg"] = REGISTERS[size]
        try:
            compiled = kernel.warmup(*arguments, grid=grid, **options)
        except triton.CompilationError as error:
            raise RuntimeError(
                f"Triton {triton.__version__} could not compile {', '.join(rules) or 'a kernel'}, "
                f"for the reason above; backend='reference' steps it. Please report it."
            ) from error
        # Several times faster than kernel[grid], which looks at every argument anew.
        self._launch = compiled[grid]
        name, seconds = kernel.__name__, time.perf_counter() - start
        log.debug("Triton's kernel %s was ready after %.2f s", name, seconds)

    def __call__(self) -> None:
        self._launch(*self._arguments)


class Layout:
    """Tables on a device for entries whose gradients have those dtypes and alignments."""

    def __init__(
        self,
        entries: list[Entry],
        types: np.ndarray,
        aligned: np.ndarray,
        groups: int,
        own: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self._entries, self._device = entries, device
        n = len(entries)
        numbers = (tables.GROUP_FIELDS.value + len(own)) * groups
        by_dtypes: dict[tuple[torch.dtype, int], list[int]] = {}
        for i, e in enumerate(entries):
            by_dtypes.setdefault((e.param.dtype, int(types[i])), []).append(i)
        table = np.zeros((n, tables.TENSOR_FIELDS.value), np.int64)
        self._sums = 0  # numbers of parts of segments that are split
        work = {key: self._lay_out(table, key, on, aligned) for key, on in by_dtypes.items()}

        # What a step may have to send, one after the other.
        self.changing = torch.empty(
            n + numbers + tables.PLACES.value * groups, dtype=torch.int64, device=device
        )
        gradients, group_numbers, places = self.changing.tensor_split((n, n + numbers))
        tensors = torch.from_numpy(table).to(device)
        hypers = torch.empty(
            n * (tables.HYPER_FIELDS.value + len(own)), dtype=torch.float64, device=device
        )
        sums = torch.empty(self._sums, dtype=torch.float64, device=device)
        self.tensors = [self.changing, tensors, hypers, sums]
        blocks = -(-n // BEGIN_BLOCK)
        group_numbers = group_numbers.view(torch.float64)
        self.launches = [
            Launch(
                tables.begin, blocks, 8, tensors, gradients, group_numbers, places, hypers, n,
                len(own), BEGIN_BLOCK,
            )
        ]  # fmt: skip
        for (w_type, g_type), (pieces, split, distinct) in work.items():
            rules = [{e.rule: None for e in entries if (e.dim == 1) == single} for single in (0, 1)]
            rule, classic = (next(iter(r), None) for r in rules)
            on_device = torch.from_numpy(pieces).to(device)
            self.tensors.append(on_device)
            self.launches += [
                Launch(
                    kernels.step_all,
                    programs,
                    8 if w_type == torch.float64 else 4,
                    tensors,
                    gradients,
                    hypers,
                    sums,
                    on_device,
                    summing,
                    shapes.PART,
                    len(own),
                    hyper_of(own),
                    *functions(rule),
                    *functions(classic),
                    *kind(rule),
                    *kind(classic),
                    TYPES[w_type],
                    TYPES[DTYPES[g_type]],
                    tl.float64 if w_type == torch.float64 else tl.float32,
                    tuple(shape.code() for shape in distinct),
                    rules=[f"rule {r.name}" for r in (rule, classic) if r is not None],
                )
                for programs, summing in ((split, True), (len(pieces), False))
                if programs
            ]

    def _lay_out(
        self,
        table: np.ndarray,
        dtypes: tuple[torch.dtype, int],
        members: list[int],
        aligned: np.ndarray,
    ) -> tuple[np.ndarray, int, tuple[shapes.Shape, ...]]:
        """Fill those rows of the table; returns the list of work, how many of its first pieces are
        parts, and the shapes of all."""
        narrowest = min(dtypes[0].itemsize, DTYPES[dtypes[1]].itemsize)
        held_as = {}
        for i in members:
            e = self._entries[i]
            assert e.geometry is not None
            outer, dim, inner = e.geometry
            if dim == 1:
                outer, inner = 1, outer * inner
            vector = 16 // narrowest if aligned[i] else 1
            holds_gradient = e.rule.direction == "previous"
            held_as[i] = shapes.shape_of(dim, inner, e.state_dtype.itemsize, vector, holds_gradient)
            table[i, :8] = (*addresses(e), dim, outer, inner, e.group)
        distinct = tuple(sorted(set(held_as.values())))
        # Those that take a program longest come first, so that none is left at the end.
        members = sorted(
            members, key=lambda i: (not held_as[i].split, held_as[i].held, -table[i, 4])
        )
        pieces, split = [], 0
        for i in members:
            dim, outer, inner = (int(n) for n in table[i, 4:7])
            count = shapes.pieces_of(held_as[i], outer, dim, inner)
            table[i, 8:] = distinct.index(held_as[i]), self._sums
            if held_as[i].split:
                split += count
                self._sums += count * SUMS_OF_PART * held_as[i].rows
            pieces.append(np.stack([np.full(count, i), np.arange(count)], axis=1))
        return np.concatenate(pieces).astype(np.int32), split, distinct


def functions(rule: Rule | None) -> tuple[Any, Any]:
    return (None, None) if rule is None else bound(rule)


def kind(rule: Rule | None) -> tuple[str | None, str | None]:
    return (None, None) if rule is None else (rule.direction, rule.second_moment)


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
