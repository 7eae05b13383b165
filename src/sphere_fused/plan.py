"""The work of one step: which tensors it touches, and whether that still holds.

A `Plan` is built once and checked again before every step, because gradients are new tensors after
`zero_grad()` and anybody may swap the storage of a parameter or of its state. Everything a user can
get wrong about tensors is refused here, before a pointer leaves Python or a byte is written.
"""

from __future__ import annotations

import collections
import importlib
import math
from array import array
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch

from sphere_fused.rule import Hyper, Rule
from sphere_fused.segments import (
    Dims,
    Geometry,
    Writes,
    geometry,
    norms_of_segments,
    overlaps_itself,
    same_strides,
    zeros_per_segment,
)

compiled: ModuleType | None
try:
    compiled = importlib.import_module("sphere_fused._native")
    compiled_import_error = ""
except ImportError as error:
    compiled = None
    compiled_import_error = str(error)

# In the order of csrc/plan.h.
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def at_hand(value: float | torch.Tensor) -> float | torch.Tensor:
    """`value` as a number, or as it is on a device, where reading it would wait."""
    return value if isinstance(value, torch.Tensor) and not value.is_cpu else float(value)


def in_double(value: float | torch.Tensor) -> Any:
    """A number, or a 0-d tensor, which leaves the dtype of what it is multiplied with alone."""
    return value.reshape(()).double() if isinstance(value, torch.Tensor) else value


# A named tuple without fields, of rules that have no hyperparameters of their own.
NO_OWN: Any = collections.namedtuple("Own", ())()


class GroupHyper(NamedTuple):
    """The hyperparameters of a parameter group; see rule.Hyper.

    Those that may be tensors are one-element tensors on a device, where reading them would wait.
    """

    lr: float | torch.Tensor
    beta1: float
    gain1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    grad_clip: float = math.inf
    beta3: float = 0.0
    # Of what x is made, before bias corrections: ahead_m m + ahead_g g.
    ahead_m: float = 1.0
    ahead_g: float = 0.0
    corrects: bool = True  # moments are corrected for their bias
    maximize: bool = False
    own: Any = NO_OWN  # as in Hyper
    grad_scale: float | torch.Tensor = 1.0  # what gradients are to be divided by
    found_inf: float | torch.Tensor = 0.0  # not 0: the step changes nothing; same in all groups

    def is_numbers(self) -> bool:
        """Whether no tensor is among them."""
        return (
            isinstance(self.lr, float)
            and isinstance(self.grad_scale, float)
            and isinstance(self.found_inf, float)
        )

    def on(self, device: torch.device) -> GroupHyper:
        """The same with tensors on `device`; with numbers if that is the CPU, which may wait."""
        if self.is_numbers():
            return self

        def moved(value: float | torch.Tensor) -> float | torch.Tensor:
            if device.type == "cpu":
                return float(value)
            return value.to(device) if isinstance(value, torch.Tensor) else value

        return self._replace(
            lr=moved(self.lr),
            grad_scale=moved(self.grad_scale),
            found_inf=moved(self.found_inf),
        )

    def at(self, step: Any, rule: Rule, dim: int, numel: int) -> Hyper:
        """The Hyper of step number `step` (a number or a 0-d tensor) of a parameter with `numel`
        elements in segments of `dim`."""
        lr = in_double(self.lr)
        coupled = rule.decays and not self.decoupled
        decoupled = rule.decays and self.decoupled
        bc1 = 1.0 - self.beta1**step if self.corrects else 1.0
        bc2 = 1.0 - self.beta2**step if self.corrects else 1.0
        return Hyper(
            lr=lr,
            beta1=self.beta1,
            gain1=self.gain1,
            beta2=self.beta2,
            gain2=1.0 - self.beta2,
            beta3=self.beta3,
            gain3=1.0 - self.beta3,
            bc1=bc1,
            bc2=bc2,
            bc3=1.0 - self.beta3**step,
            t=step,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decay=1.0 - lr * self.weight_decay if decoupled else 1.0,
            grad_clip=self.grad_clip,
            dim=float(dim),
            sqrt_dim=math.sqrt(dim),
            numel=float(numel),
            l2=self.weight_decay if coupled else 0.0,
            unscale=(-1.0 if self.maximize else 1.0) / in_double(self.grad_scale),
            x_m=self.ahead_m * bc2**0.5 / bc1,
            x_g=self.ahead_g * bc2**0.5 / bc1,
            x_eps=self.eps * bc2**0.5,
            own=self.own,
        )


def placed(hypers: list[GroupHyper], device: torch.device) -> tuple[list[Any], list[torch.Tensor]]:
    """`hypers` with where each tensor is on `device` instead of it, (address, whether a double lies
    there and not a float); and the tensors, which must be kept until the step is enqueued."""
    if all(hyper.is_numbers() for hyper in hypers):
        return hypers, []
    here: dict[int, torch.Tensor] = {}  # by id, because groups share them

    def place(value: float | torch.Tensor, *besides: torch.dtype) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        tensor = here.get(id(value))
        if tensor is None:
            dtype = value.dtype if value.dtype in besides else torch.float32
            tensor = here[id(value)] = value.to(device, dtype, non_blocking=True)
        return tensor.data_ptr(), tensor.dtype == torch.float64

    with_addresses = [
        hyper._replace(
            lr=place(hyper.lr, torch.float64),
            grad_scale=place(hyper.grad_scale),
            found_inf=place(hyper.found_inf),
        )
        for hyper in hypers
    ]
    return with_addresses, list(here.values())


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


def has_no_memory(tensor: torch.Tensor) -> bool:
    """True for wrappers of other tensors (a DTensor, say) and for freed storage."""
    return tensor.numel() > 0 and tensor.device.type != "meta" and tensor.data_ptr() == 0


def check_parameter(tensor: torch.Tensor, name: str) -> None:
    """Raise if `tensor` is of a kind that no backend can step."""
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} is sparse ({tensor.layout}); only dense parameters can be stepped")
    if tensor.dtype not in DTYPES:
        known = ", ".join(str(dtype) for dtype in DTYPES)
        raise TypeError(f"{name} is {tensor.dtype}; the supported dtypes are {known}")
    if has_no_memory(tensor):
        raise TypeError(
            f"{name} is a {type(tensor).__name__} without memory of its own; only plain dense "
            f"tensors can be stepped"
        )
    if tensor.is_neg():
        raise RuntimeError(f"{name} is a negated view: call resolve_neg() on it first")
    if overlaps_itself(tensor):
        raise RuntimeError(f"elements of {name} share memory (it was expanded): clone() it first")


@dataclass(slots=True)
class Entry:
    """One parameter: what is done to it and the state it needs."""

    name: str
    param: torch.Tensor
    group: int
    rule: Rule
    inside: Dims
    elementwise: bool  # the rule is the classic one, and nothing is summed
    allowed: tuple[str, ...]  # names of backends, the preferred first
    moment_key: str
    keeps_moment: bool
    counts_steps: bool
    capturable: bool
    radius: float | None  # that every segment is to keep; None: what it has before the first step
    state: dict[str, Any]
    geometry: Geometry | None = None

    @property
    def dim(self) -> int:
        return math.prod(self.param.shape[d] for d in self.inside)

    @property
    def state_dtype(self) -> torch.dtype:
        return torch.float64 if self.param.dtype == torch.float64 else torch.float32

    def empty_state(self) -> dict[str, torch.Tensor]:
        """Every state tensor as it is before the first step."""
        p = self.param
        state = {}
        if self.counts_steps:
            # Where the parameter is, or every step on a GPU would have to wait for it.
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
        if self.keeps_moment:
            state[self.moment_key] = torch.zeros_like(p, dtype=self.state_dtype)
        if self.rule.second_moment == "element":
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=self.state_dtype)
        if self.rule.state_key is not None:
            state[self.rule.state_key] = zeros_per_segment(p, self.inside, self.state_dtype)
        if self.rule.keeps_radius:
            state["radius"] = zeros_per_segment(p, self.inside, self.state_dtype)
            if self.radius is None:
                state["radius"].copy_(norms_of_segments(p.detach(), self.inside))
            else:
                state["radius"].fill_(self.radius)
        return state

    @property
    def state_keys(self) -> tuple[str, ...]:
        """Those of all tensors of the state that a step may read or write."""
        own = [key for key in (self.rule.state_key,) if key not in (None, "exp_avg_sq")]
        return ("step", self.moment_key, "exp_avg_sq", *own, "radius")

    def state_tensors(self) -> list[tuple[str, torch.Tensor]]:
        """The tensors of the state that a step reads and writes."""
        held = [(key, self.state.get(key)) for key in self.state_keys]
        return [(key, t) for key, t in held if isinstance(t, torch.Tensor)]

    def addresses(self) -> dict[str, int]:
        """Of w, m, v, s, radius and step; 0 for what is not kept."""
        at = {key: tensor.data_ptr() for key, tensor in self.state_tensors()}
        return {
            "w": self.param.data_ptr(),
            "m": at.get(self.moment_key, 0) if self.keeps_moment else 0,
            "v": at.get("exp_avg_sq", 0) if self.rule.second_moment == "element" else 0,
            "s": at.get(self.rule.state_key or "", 0),
            "radius": at.get("radius", 0) if self.rule.keeps_radius else 0,
            "step": at.get("step", 0),
        }

    def fitted_state(self, state: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Those tensors of `state` that must be replaced: absent ones, and loaded ones in another
        dtype or layout. Raises if one cannot be what it is said to be."""
        replaced = {}
        for key, empty in self.empty_state().items():
            if key not in state:
                replaced[key] = empty
                continue
            held = state[key]
            is_dense = isinstance(held, torch.Tensor) and held.layout == torch.strided
            if not is_dense and not isinstance(held, (int, float)):
                raise RuntimeError(
                    f"the state '{key}' of {self.name} must be a dense tensor, not {held!r}: load "
                    f"the matching checkpoint, or clear optimizer.state to start afresh"
                )
            held = torch.as_tensor(held)
            if held.shape != empty.shape and not (key == "step" and held.numel() == 1):
                raise RuntimeError(
                    f"the state '{key}' of {self.name} has shape {tuple(held.shape)} where "
                    f"{tuple(empty.shape)} is needed. It comes from another optimizer, other "
                    f"channel_dims or another parameter order: load the matching checkpoint "
                    f"(sphere_fused.from_adam converts Adam's), or clear optimizer.state to start "
                    f"afresh."
                )
            if held.numel() != 1 and held.device != empty.device:
                raise RuntimeError(
                    f"the state '{key}' of {self.name} is on {held.device} and the parameter on "
                    f"{empty.device}: move the model before making the optimizer, or move the "
                    f"tensors in optimizer.state along with it"
                )
            same = held.dtype == empty.dtype and held.device == empty.device
            same = same and held.shape == empty.shape and same_strides(held, empty)
            if not same or not isinstance(state[key], torch.Tensor):
                replaced[key] = empty.copy_(held.reshape(empty.shape))
        return replaced

    def check_loaded(self) -> None:
        """Raise RuntimeError if the state, just loaded, is none that a run can go on with."""
        missing = self.fitted_state(self.state).keys() - self.state.keys()
        if self.state and missing:
            raise RuntimeError(
                f"the state of {self.name} has {sorted(self.state)} and lacks {sorted(missing)}: "
                f"it comes from another optimizer. Load the matching checkpoint."
            )
        step = torch.as_tensor(self.state.get("step", 0))
        if self.counts_steps and not step.is_meta and not 0 <= float(step) < math.inf:
            raise RuntimeError(
                f"the state 'step' of {self.name} is {float(step)}, which is no number of steps: "
                f"the checkpoint is damaged"
            )

    def gradient(self) -> torch.Tensor | None:
        """The gradient, in the layout of the parameter; None where there is nothing to do."""
        p, g = self.param, self.param.grad
        if g is None or p.numel() == 0:
            return None
        if g.layout != torch.strided:
            raise RuntimeError(
                f"the gradient of {self.name} is sparse; sphere_fused takes dense gradients only. "
                f"Make it dense (Embedding(sparse=False)) or use torch.optim.SparseAdam for it."
            )
        if g.shape != p.shape or g.device != p.device:
            raise RuntimeError(
                f"the gradient of {self.name} is {tuple(g.shape)} on {g.device} where the "
                f"parameter is {tuple(p.shape)} on {p.device}: set .grad to a tensor like the "
                f"parameter, or to None"
            )
        if has_no_memory(g):
            raise TypeError(
                f"the gradient of {self.name} is a {type(g).__name__} without memory of its own: "
                f"set .grad to a plain tensor"
            )
        if g.dtype not in (p.dtype, torch.float32):
            takes = " or ".join(sorted({str(p.dtype), "torch.float32"}))
            raise TypeError(
                f"the gradient of {self.name} is {g.dtype}; a {p.dtype} parameter takes gradients "
                f"in {takes}: convert it with .to()"
            )
        if self.geometry is not None and (not same_strides(g, p) or g.is_neg()):
            return torch.empty_like(p, dtype=g.dtype).copy_(g)
        return g


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
