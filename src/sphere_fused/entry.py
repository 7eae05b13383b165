"""One parameter: what a user can get wrong about it, its gradient and its state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from sphere_fused.rule import Rule
from sphere_fused.segments import (
    Dims,
    Geometry,
    norms_of_segments,
    overlaps_itself,
    same_strides,
    zeros_per_segment,
)

# In the order of csrc/plan.h.
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


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
