"""RotationalLion: Lion at a controlled angle (Kosson et al., arXiv 2305.17212)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import LION
from sphere_fused.optim.families import AdamFamily
from sphere_fused.optim.rotational import OWN, Rotational, rotate, tangential
from sphere_fused.rule import Rule


class RotationalLion(Rotational, AdamFamily):
    """Lion that turns weights by a controlled angle.

        u = sign(beta1 m + (1-beta1) g);  m <- beta2 m + (1-beta2) g
        eta = sqrt(pi/2) sqrt(2 lr wd) sqrt((1-beta1)^2 + beta1^2 (1-beta2)/(1+beta2))

    and w as `Rotational` says. Arguments are those of `RotationalAdamW`, without eps; state too,
    without `exp_avg_sq`. Kosson et al., ICML 2024, arXiv 2305.17212.
    """

    rule = Rule(
        "rotational lion",
        tangential,
        land=rotate,
        direction="sign",
        second_moment=None,
        segment_state="update_norm_sq",
        keeps_radius=True,
        own=OWN,
    )
    classic = LION

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-4,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.99),
        *,
        weight_decay: float,
        zero_mean: bool = True,
        update_norm_decay_factor: float = 0.9,
        rotational_eps: float = 1e-8,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def rate(self, group: dict[str, Any]) -> float:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        return math.pi * ((1.0 - beta1) ** 2 + beta1**2 * (1.0 - beta2) / (1.0 + beta2))

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        return self.shared_hyper(group, beta2, 1.0 - beta2)._replace(
            corrects=False,
            ahead_m=beta1,
            ahead_g=1.0 - beta1,
        )
