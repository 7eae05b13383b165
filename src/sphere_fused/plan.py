"""The work of one step: which tensors it touches, and whether that still holds.

A `Plan` is built once and checked again before every step, because gradients are new tensors after
`zero_grad()` and anybody may swap the storage of a parameter or of its state. Everything a user can
get wrong about tensors is refused here, before a pointer leaves Python or a byte is written.
"""

from __future__ import annotations

import importlib
from array import array
from types import ModuleType
from typing import Any

import torch

from sphere_fused.entry import DTYPES, Entry, check_parameter
from sphere_fused.segments import Geometry, Writes, geometry

compiled: ModuleType | None
try:
    compiled = importlib.import_module("sphere_fused._native")
    compiled_import_error = ""
except ImportError as error:
    compiled = None
    compiled_import_error = str(error)


def check_capture(capturable: bool, prepared: bool) -> None:
    """Raise RuntimeError if a step that is so cannot be captured into a CUDA graph."""
    if not capturable:
        raise RuntimeError(
            "a step is being captured into a CUDA graph, and a parameter group has "
            "capturable=False: make the optimizer with capturable=True, and take one step before "
            "the capture"
        )
    if not prepared:
        raise RuntimeError(
            "a step is being captured into a CUDA graph that must first make state or copy from "
            "the host, which every replay would repeat: take one step outside the graph first, "
            "with the same parameters, groups and dtypes of gradients"
        )


class Plan:
    """Everything a step of one optimizer touches, validated.

    Args:
        entries: one per parameter. Those with a gradient get their state here, if they lack it.
        state: the optimizer's state, by parameter.
        groups: the optimizer's param_groups.

    Raises: as `Entry.gradient`, `Entry.fitted_state` and `Writes`, before anything is written.
    """

    native: Any  # a compiled Plan, or None

    def __init__(
        self,
        entries: list[Entry],
        state: dict[torch.Tensor, dict[str, Any]],
        groups: list[dict[str, Any]],
    ) -> None:
        self._state, self._groups = state, list(groups)
        filled = [e for e in entries if e.param.numel()]
        self.entries = [e for e in filled if e.param.grad is not None or e.state]
        self._dormant = [e.param for e in filled if e.param.grad is None and not e.state]
        self._validate_and_fill()
        # Conformed copies of gradients that lie otherwise than their parameter, for this step.
        self._copies: dict[int, torch.Tensor] = {}
        # Of the gradients; see `gradients`.
        self._addresses = array("q", bytes(8 * len(self.entries)))
        self._types = bytearray(len(self.entries))
        self.native = None if compiled is None else self._native_plan(compiled)
        api = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
        on_meta = any(e.param.is_meta for e in self.entries)  # which the table does not know
        has_table = type(api).__name__ == "PyCapsule" and not on_meta
        self._watched = self.native is not None and has_table
        if self._watched:
            # The compiled module borrows these, and what is in them.
            self._watched_objects = (
                self._state,
                self._groups,
                [(e.param, e.state, [key for key, _ in e.state_tensors()]) for e in self.entries],
                self._dormant,
            )
            self._held = list(self._state.items()), [g["params"] for g in self._groups]
            self.native.watch(api, *self._watched_objects, self._writes.addresses())
        else:
            self._signature = self._signature_now()

    def _validate_and_fill(self) -> None:
        replaced = []
        for e in self.entries:
            check_parameter(e.param, e.name)
            e.geometry = geometry(e.param, e.inside)
            e.gradient()
            replaced.append(e.fitted_state(e.state))
        written = []
        for e, new in zip(self.entries, replaced, strict=True):
            written.append((e.name, e.param))
            for key, value in {**e.state, **new}.items():
                if key in e.state_keys:
                    written.append((f"the state '{key}' of {e.name}", value))
        self._writes = Writes(written)
        for i in range(len(self.entries)):
            self._refuse_overlap(i)
        for e, new in zip(self.entries, replaced, strict=True):
            e.state = self._state[e.param]
            e.state.update(new)

    def _native_plan(self, module: ModuleType) -> Any:
        plan = module.Plan()
        for e in self.entries:
            plan.add(
                *e.addresses().values(),
                *(e.geometry or Geometry(0, 0, 0)),
                e.group,
                module.RULES.index(e.rule.key) if e.rule.key in module.RULES else -1,
                DTYPES.index(e.param.dtype),
                e.elementwise,
            )
        return plan

    def _refuse_overlap(self, i: int) -> None:
        e = self.entries[i]
        other = None if e.param.grad is None else self._writes.overlapping(e.param.grad)
        if other is not None:
            raise RuntimeError(
                f"the gradient of {e.name} overlaps {other} in memory, which the step would "
                f"change while reading it: clone() the gradient"
            )

    def _signature_now(self) -> list[Any]:
        """What must not change between two steps, compared where torch lacks the C table."""
        tensors = [t for e in self.entries for t in (e.param, *dict(e.state_tensors()).values())]
        return [
            [(id(t), t.data_ptr(), t.dtype, t.device, t.shape, t.stride()) for t in tensors],
            [id(self._state.get(e.param)) for e in self.entries],
            [[id(p) for p in group["params"]] for group in self._groups],
            [p.grad is None for p in self._dormant],
        ]

    def ready(self) -> bool:
        """Check every tensor of the coming step and note where its gradients are.

        Returns False if the plan no longer describes the optimizer: build a new one. Raises for a
        gradient that cannot be used.
        """
        if self._watched:
            odd = self.native.check()
            if odd is None:
                return False
        else:
            if self._signature_now() != self._signature:
                return False
            odd = range(len(self.entries))
        for i in odd:
            gradient = self.entries[i].gradient()
            self._refuse_overlap(i)
            if gradient is not None and gradient is not self.entries[i].param.grad:
                self._copies[i] = gradient
            self._addresses[i] = 0 if gradient is None else gradient.data_ptr()
            self._types[i] = 0 if gradient is None else DTYPES.index(gradient.dtype)
            if self.native is not None:
                self.native.set_gradient(i, self._addresses[i], self._types[i])
        return True

    def gradients(self) -> tuple[bytes, bytes]:
        """Of every entry's gradient in this step the address, in 64 bits, 0 where there is none,
        and the number of its dtype in DTYPES, in 8 bits."""
        if self.native is not None:
            return self.native.gradients()
        return self._addresses.tobytes(), bytes(self._types)

    def release(self) -> None:
        """Let go of the gradients of this step."""
        self._copies.clear()
        if self.native is not None:
            self.native.release()
