"""What optimizers that keep norms make of weights before the first step."""

from __future__ import annotations

import torch

from sphere_fused.segments import Dims, norms_of_segments


def norms(p: torch.Tensor, inside: Dims, name: str) -> torch.Tensor:
    """The norm of each segment of `p`, in double; raises if one has none that can be kept."""
    if p.is_meta:
        raise RuntimeError(
            f"{name} is on the meta device, where there is nothing to normalize: make the "
            f"optimizer when the model has its weights"
        )
    found = norms_of_segments(p, inside)
    if not bool((found > 0).all()):
        raise ValueError(
            f"{name} has a segment of norm 0 (or NaN), which has no direction: initialize it, "
            f"or give it a group with channel_dims=None"
        )
    return found


def centred(p: torch.Tensor, inside: Dims, name: str) -> torch.Tensor:
    """Segments of mean 0 with the norms of those of `p`."""
    norm = norms(p, inside, name)
    wide = p.to(torch.float64)
    centre = wide - wide.mean(inside, keepdim=True)
    left = norms_of_segments(centre, inside)
    # What is left of equal elements is rounding.
    if not bool((left > 1e-6 * norm).all()):
        raise ValueError(
            f"{name} has a segment of equal elements, of which centring leaves nothing: "
            f"initialize it, or give its group zero_mean=False or channel_dims=None"
        )
    return centre * (norm / left)
