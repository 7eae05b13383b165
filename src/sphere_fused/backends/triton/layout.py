"""Tables on the device, lists of work, and the launches of a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import triton.language as tl

from sphere_fused.backends.triton import begin as tables
from sphere_fused.backends.triton import kernels, shapes, survey
from sphere_fused.backends.triton.launch import Launch
from sphere_fused.backends.triton.moves import Functions, bound, hyper_of
from sphere_fused.backends.triton.parts import PART_FIELDS
from sphere_fused.entry import DTYPES, Entry
from sphere_fused.rule import Rule

BLOCK = 128  # tensors, or sums, that a program takes at once where it takes one per lane
TYPES = dict(zip(DTYPES, (tl.float32, tl.float64, tl.bfloat16, tl.float16), strict=True))


class Kind(NamedTuple):
    """What one kernel can step: entries of the same dtypes, those that are stepped by segments by
    one rule, those by elements by another."""

    w_type: torch.dtype
    g_type: torch.dtype
    rule: Rule | None
    classic: Rule | None


class Work(NamedTuple):
    """Pieces of entries, (entry, number) each, and the shapes that they have among them."""

    pieces: np.ndarray
    shapes: tuple[int, ...]


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
        self._entries, self._own, self._device = entries, own, device
        n = len(entries)
        self._table = np.zeros((n, tables.TENSOR_FIELDS.value), np.int64)
        self._sums = 0  # numbers of parts of segments that are split
        self._records = 0  # and of surveys
        work = {
            kind: self._lay_out(kind, members, aligned)
            for kind, members in self._by_kind(types).items()
        }

        # What a step may have to send, one after the other.
        numbers = (tables.GROUP_FIELDS.value + len(own)) * groups
        self.changing = torch.empty(
            n + numbers + tables.PLACES.value * groups, dtype=torch.int64, device=device
        )
        self._gradients, group_numbers, places = self.changing.tensor_split((n, n + numbers))
        self._tensors = torch.from_numpy(self._table).to(device)
        self._hypers = self._doubles(n * (tables.HYPER_FIELDS.value + len(own)))
        self._of_parts = self._doubles(self._sums)
        self._of_surveys = self._doubles(self._records)
        self.tensors = [
            self.changing, self._tensors, self._hypers, self._of_parts, self._of_surveys
        ]  # fmt: skip
        self.launches = [
            Launch(
                tables.begin, -(-n // BLOCK), 8, self._tensors, self._gradients,
                group_numbers.view(torch.float64), places, self._hypers, n, len(own), BLOCK,
            )
        ]  # fmt: skip
        for kind, (steps, split, surveyed) in work.items():
            if len(surveyed.pieces):
                self.launches += self._survey(kind, surveyed)
            self.launches += self._step(kind, steps, split)

    def _doubles(self, count: int) -> torch.Tensor:
        return torch.empty(count, dtype=torch.float64, device=self._device)

    def _by_kind(self, types: np.ndarray) -> dict[Kind, list[int]]:
        """The entries that each kernel steps."""
        rules: dict[tuple[torch.dtype, int, bool], list[Rule]] = {}
        found: dict[tuple[torch.dtype, int, int], list[int]] = {}
        for i, e in enumerate(self._entries):
            dtypes = e.param.dtype, int(types[i])
            known = rules.setdefault((*dtypes, e.elementwise), [])
            if e.rule not in known:
                known.append(e.rule)
            found.setdefault((*dtypes, known.index(e.rule)), []).append(i)

        def rule_of(members: list[int], elementwise: bool) -> Rule | None:
            of = (self._entries[i] for i in members)
            return next((e.rule for e in of if e.elementwise == elementwise), None)

        return {
            Kind(w_type, DTYPES[g_type], rule_of(of, False), rule_of(of, True)): of
            for (w_type, g_type, _), of in found.items()
        }

    def _lay_out(
        self, kind: Kind, members: list[int], aligned: np.ndarray
    ) -> tuple[Work, int, Work]:
        """Fill those rows of the table; returns the work of the step, how many of its first pieces
        are parts, and the work of the survey before it."""
        narrowest = min(kind.w_type.itemsize, kind.g_type.itemsize)
        lie, held_as, seen_as = {}, {}, {}
        for i in members:
            e = self._entries[i]
            assert e.geometry is not None
            outer, dim, inner = e.geometry
            if e.elementwise:
                outer, inner = 1, outer * inner
            lie[i] = outer, dim, inner
            vector = 16 // narrowest if aligned[i] else 1
            held_as[i] = shapes.shape_of(
                e.elementwise, dim, inner, e.state_dtype.itemsize, vector, e.rule.direction
            )
            if not e.elementwise and e.rule.verdict is not None:
                seen_as[i] = held_as[i]._replace(split=False)
        codes, codes_seen = (
            tuple(sorted({s.code() for s in of.values()})) for of in (held_as, seen_as)
        )
        # Those that take a program longest come first, so that none is left at the end.
        members = sorted(members, key=lambda i: (not held_as[i].split, held_as[i].held, -lie[i][1]))
        pieces, split, pieces_seen = [], 0, []
        for i in members:
            e, shape = self._entries[i], held_as[i]
            count = shapes.pieces_of(shape, *lie[i])
            pieces.append(work_on(i, count))
            at_sums, at_records, seen, count_seen = self._sums, self._records, -1, 0
            if shape.split:
                split += count
                self._sums += count * PART_FIELDS.value * shape.rows
            if i in seen_as:
                seen = codes_seen.index(seen_as[i].code())
                count_seen = shapes.pieces_of(seen_as[i], *lie[i])
                pieces_seen.append(work_on(i, count_seen))
                self._records += tables.RECORD_FIELDS.value * (1 + count_seen)
            self._table[i] = (
                *e.addresses().values(), *lie[i], e.group, e.rule.decays,
                codes.index(shape.code()), at_sums, seen, at_records, count_seen,
            )  # fmt: skip
        surveyed = np.concatenate(pieces_seen) if pieces_seen else np.empty((0, 2), np.int32)
        return Work(np.concatenate(pieces), codes), split, Work(surveyed, codes_seen)

    def _on_device(self, pieces: np.ndarray) -> torch.Tensor:
        self.tensors.append(torch.from_numpy(pieces).to(self._device))
        return self.tensors[-1]

    def _survey(self, kind: Kind, work: Work) -> list[Launch]:
        assert kind.rule is not None
        rule, functions = kind.rule, bound(kind.rule)
        size, w_type, g_type, state_type = arithmetic(kind)
        pieces = self._on_device(work.pieces)
        entries = self._on_device(np.unique(work.pieces[:, 0]))
        launches = []
        for decided in (False, True):
            of_both = (decided, len(self._own), hyper_of(self._own))
            launches += [
                Launch(
                    survey.survey, len(pieces), size, self._tensors, self._gradients, self._hypers,
                    self._of_surveys, pieces, *of_both, functions.peak, rule.direction, w_type,
                    g_type, state_type, work.shapes, rules=[f"rule {rule.name}"],
                ),
                Launch(
                    survey.judge, len(entries), size, self._tensors, self._hypers,
                    self._of_surveys, entries, *of_both, functions.verdict, state_type, BLOCK,
                    rules=[f"rule {rule.name}"],
                ),
            ]  # fmt: skip
        return launches

    def _step(self, kind: Kind, work: Work, split: int) -> list[Launch]:
        rule, classic = kind.rule, kind.classic
        size, *types = arithmetic(kind)
        pieces = self._on_device(work.pieces)
        return [
            Launch(
                kernels.step_all,
                programs,
                size,
                self._tensors,
                self._gradients,
                self._hypers,
                self._of_parts,
                self._of_surveys,
                pieces,
                summing,
                shapes.PART,
                len(self._own),
                hyper_of(self._own),
                *how(rule),
                rule is not None and rule.verdict is not None,
                *how(classic),
                *types,
                work.shapes,
                rules=[f"rule {r.name}" for r in (rule, classic) if r is not None],
            )
            for programs, summing in ((split, True), (len(pieces), False))
            if programs
        ]


def work_on(entry: int, count: int) -> np.ndarray:
    return np.stack([np.full(count, entry), np.arange(count)], axis=1).astype(np.int32)


def arithmetic(kind: Kind) -> tuple[int, Any, Any, Any]:
    """Bytes of a number of the arithmetic, and Triton's names of the dtypes of w, g and state."""
    is_double = kind.w_type == torch.float64
    state_type = tl.float64 if is_double else tl.float32
    return 8 if is_double else 4, TYPES[kind.w_type], TYPES[kind.g_type], state_type


def how(rule: Rule | None) -> tuple[Any, ...]:
    """What a kernel that steps by a rule must know when it is compiled."""
    if rule is None:
        return None, None, None, False, False
    functions: Functions = bound(rule)
    keeps_s = rule.state_key is not None
    return functions.step, functions.land, rule.direction, keeps_s, rule.keeps_radius
