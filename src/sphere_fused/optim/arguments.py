"""What users give as arguments, as what it must be, or an error that says so."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch


def given(scope: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor whose locals() are `scope`, as groups keep them."""
    return {k: v for k, v in scope.items() if k not in ("self", "params", "own", "__class__")}


def channel_dims_of(group: dict[str, Any]) -> tuple[int, ...] | None:
    """The group's channel_dims, which become a tuple there; TypeError if they are no dims."""
    dims = group["channel_dims"]
    if dims is None:
        return None
    if not isinstance(dims, (tuple, list)) or not all(type(d) is int for d in dims):
        raise TypeError(f"channel_dims must be a tuple of ints or None, not {dims!r}")
    group["channel_dims"] = tuple(dims)
    return group["channel_dims"]


def number(value: Any, name: str) -> float:
    """`value`, a number or a one-element tensor, as a number; raises if it is neither."""
    expected = f"{name} must be a number or a one-element tensor"
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ValueError(f"{expected}, not one of shape {tuple(value.shape)}")
    elif not isinstance(value, numbers.Real):
        raise TypeError(f"{expected}, not {value!r}")
    return float(value)


def in_range(value: Any, name: str, least: float = 0.0, below: float = math.inf) -> None:
    """Raise if `value` is no number of at least `least` and less than `below`."""
    if not least <= number(value, name) < below:
        end = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be at least {least:g} and {end}, not {value}")
