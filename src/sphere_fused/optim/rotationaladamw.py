"""RotationalAdamW: AdamW at a controlled angle (Kosson et al., arXiv 2305.17212)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import ADAM
from sphere_fused.optim.families import AdamFamily
from sphere_fused.optim.rotational import OWN, Rotational, rotate, tangential
from sphere_fused.rule import Rule


class RotationalAdamW(Rotational, AdamFamily):
    """AdamW that turns weights by a controlled angle.

        u = Adam's direction;  eta = sqrt(2 lr wd (1-beta1)/(1+beta1))

    and w as `Rotational` says.

    Args:
        zero_mean: keep the mean of every segment at 0.
        update_norm_decay_factor: f, of the average of the squared length of d.
        rotational_eps: added to the root of that average.
        (the others): as `AdamS`.

    State per parameter: `step`, `exp_avg` and `exp_avg_sq` in the shape of the parameter, `radius`
    (n) and `update_norm_sq` (q) with size 1 in the dims inside a segment. Errors are those of
    `AdamH`. Kosson et al., ICML 2024, arXiv 2305.17212.
    """

    rule = Rule(
        "rotational adamw",
        tangential,
        land=rotate,
        direction="adam",
        second_moment="element",
        segment_state="update_norm_sq",
        keeps_radius=True,
        own=OWN,
    )
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
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
        beta1 = float(group["betas"][0])
        return 2.0 * (1.0 - beta1) / (1.0 + beta1)
