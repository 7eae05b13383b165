"""SGDP: AdamP's projection for momentum SGD (Heo et al., arXiv 2006.08217)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.adamp import (
    OWN,
    Projecting,
    cosine,
    filters_or_tensor,
    projected,
    projected_by_filter,
)
from sphere_fused.optim.arguments import given, in_range
from sphere_fused.optim.classic import NESTEROV
from sphere_fused.optim.families import MomentumFamily
from sphere_fused.rule import Rule


class SGDP(Projecting, MomentumFamily):
    """AdamP's projection for momentum SGD.

        b <- momentum b + (1-dampening) g;  u = b, with nesterov g + momentum b
        u and wd as in `AdamP`
        w <- (1 - lr wd / (1-momentum)) w - lr u

    Args:
        momentum, dampening, nesterov: as torch.optim.SGD; dampening scales the first gradient too.
        eps: below which norms are not divided by.
        (the others): as `AdamP`.

    State per parameter: `momentum_buffer`, in the shape of the parameter, where momentum is above
    0. Errors are those of `AdamS`. Heo et al., ICLR 2021, arXiv 2006.08217.
    """

    rule = Rule(
        "sgdp",
        projected,
        direction="nesterov",
        second_moment=None,
        decays=False,
        peak=cosine,
        verdict=filters_or_tensor,
        own=OWN,
    )
    other_rules = (
        Rule(
            "sgdp by filter",
            projected_by_filter,
            direction="nesterov",
            second_moment=None,
            decays=False,
            own=OWN,
        ),
    )
    classic = NESTEROV

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        decision: str = "tensor",
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
        in_range(group["momentum"], "momentum", below=1.0)

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        in_range(group["momentum"], "momentum", below=1.0)  # a scheduler may have set it
        hyper = super().hyper(group)
        return hyper._replace(weight_decay=hyper.weight_decay / (1.0 - hyper.beta1))
