"""AdamH, NormAdamW and hyperball_: a step, and back to the radius."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .classic import adam_without_decay, adamw, decayed, direction
from .rows import Hyper, Oracle, Rows, State, at_radius, inner, norm, rows_of


def by_share_of_radius(w: Tensor, u: Tensor, radius: Tensor, lr: float) -> Tensor:
    """The step that is lr radii long, and back to the radius."""
    length = norm(u)
    new = at_radius(radius, w - lr * radius * u / length, w)
    return torch.where(length > 0, new, w)


def hyperball(
    w: Tensor,
    update: Tensor,
    lr: float,
    channel_dims: Sequence[int] | None = (),
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """What hyperball_ makes of a weight, with arithmetic in `dtype`."""
    rows = rows_of(tuple(w.shape), channel_dims)
    there, u = rows.split(w.to(dtype)), rows.split(update.to(dtype))
    return rows.join(by_share_of_radius(there, u, norm(there), lr))


def adamh(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    radius = state.get("radius", norm(w))
    u, state = direction(g, state, t, h)
    return by_share_of_radius(w, u, radius, h["lr"]), {**state, "radius": radius}


def below_two_dims_or_segments_of_none(shape: Sequence[int], rows: Rows, h: Hyper) -> bool:
    return len(shape) < 2 or h["channel_dims"] is None


def normadamw(w: Tensor, g: Tensor, state: State, t: int, h: Hyper) -> tuple[Tensor, State]:
    radius = state.get("radius", radius_of(w, h))
    u, state = direction(g, state, t, h)
    if h["tangent"]:
        u = u - w * inner(u, w) / inner(w, w)
    new = at_radius(radius, decayed(w, h) - h["lr"] * u, w)
    return new, {**state, "radius": radius}


def radius_of(w: Tensor, h: Hyper) -> Tensor:
    if h["radius"] == "init":
        return norm(w)
    return torch.full_like(
        norm(w), math.sqrt(w.shape[1]) if h["radius"] == "sqrt_dim" else h["radius"]
    )


def brought_to_radius(w: Tensor, h: Hyper) -> Tensor:
    return at_radius(radius_of(w, h), w, w)


ADAMH: Hyper = {
    "lr": 5e-3,
    "betas": (0.9, 0.95),
    "eps": 1e-8,
    "channel_dims": (),
    "maximize": False,
}
NORM_ADAMW: Hyper = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "radius": "init",
    "tangent": False,
    "channel_dims": (0,),
    "maximize": False,
}
ORACLES = {
    "AdamH": Oracle(ADAMH, adamh, adam_without_decay, below_two_dims_or_segments_of_none),
    "NormAdamW": Oracle(NORM_ADAMW, normadamw, adamw, construct=brought_to_radius),
}
