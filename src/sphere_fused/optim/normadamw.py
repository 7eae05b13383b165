"""NormAdamW: AdamW whose rows are normalized after every step (EDM2, nGPT)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.adamh import to_radius
from sphere_fused.optim.arguments import given, in_range
from sphere_fused.optim.classic import ADAM
from sphere_fused.optim.families import AdamFamily
from sphere_fused.optim.weights import norms
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, where
from sphere_fused.segments import Dims


def norm_adamw(gram: Gram, s: Scalar, h: Hyper) -> Update:
    removes = (h.own.tangent > 0) & (gram.ww > 0)
    radial = where(removes, gram.wx / gram.ww, 0.0)
    return Update(s=s, a_w=h.decay + h.lr * radial, a_x=-h.lr)


class NormAdamW(AdamFamily):
    """AdamW with forced weight normalization.

        u = Adam's direction;  with tangent: u <- u - w <u,w>/<w,w>
        x = (1 - lr wd) w - lr u;  w = R x/|x|

    Segments are brought to norm R when the optimizer is made, and stay there: make it before
    anything reads the weights. EDM2 (arXiv 2312.02696) is `radius="sqrt_dim"`; nGPT (arXiv
    2410.01131) is `radius=1.0`, with `channel_dims=(1,)` for output projections.

    Args:
        radius: "init", the norm a segment has; "sqrt_dim", the root of its number of elements; or a
            number above 0.
        tangent: leave the radial part of the direction out.
        channel_dims: as `AdamS`; `(1,)` for columns.
        (the others): as `AdamS`; weight decay is decoupled.

    State per parameter: as `AdamH`. Parameters whose segments have one element are stepped by
    AdamW. Errors are those of `AdamH`, and ValueError for another radius.
    """

    rule = Rule(
        "normadamw",
        norm_adamw,
        land=to_radius,
        direction="adam",
        second_moment="element",
        keeps_radius=True,
        own=("tangent",),
    )
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        radius: float | str = "init",
        tangent: bool = False,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        super().check_hyperparameters(group)
        radius = group["radius"]
        if isinstance(radius, str):
            if radius not in ("init", "sqrt_dim"):
                raise ValueError(f'radius must be "init", "sqrt_dim" or a number, not {radius!r}')
        else:
            in_range(radius, "radius")
            if radius == 0:
                raise ValueError("radius must be above 0, not 0")

    def radius(self, group: dict[str, Any], dim: int) -> float | None:
        if group["radius"] == "init":
            return None
        return math.sqrt(dim) if group["radius"] == "sqrt_dim" else float(group["radius"])

    def prepared(
        self, group: dict[str, Any], p: torch.Tensor, inside: Dims, name: str
    ) -> torch.Tensor | None:
        norm = norms(p, inside, name)
        radius = self.radius(group, p.numel() // norm.numel())
        return None if radius is None else p * (radius / norm)
