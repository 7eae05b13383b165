"""RotationalSGDM: momentum SGD at a controlled angle (Kosson et al., arXiv 2305.17212)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import NESTEROV
from sphere_fused.optim.families import MomentumFamily
from sphere_fused.optim.rotational import OWN, Rotational, rotate, tangential
from sphere_fused.rule import Rule


class RotationalSGDM(Rotational, MomentumFamily):
    """Momentum SGD that turns weights by a controlled angle.

        b <- momentum b + g;  u = b, with nesterov g + momentum b;  eta = sqrt(2 lr wd/(1+momentum))

    and w as `Rotational` says.

    Args:
        nesterov: as torch.optim.SGD.
        (the others): as `RotationalAdamW`; the weight decay of parameters that SGD steps is L2.

    State per parameter: `step`, `momentum_buffer` (where momentum is above 0), `radius` and
    `update_norm_sq` as `RotationalAdamW`. Errors are those of `AdamH`. Kosson et al., ICML 2024,
    arXiv 2305.17212.
    """

    rule = Rule(
        "rotational sgdm",
        tangential,
        land=rotate,
        direction="nesterov",
        second_moment=None,
        segment_state="update_norm_sq",
        keeps_radius=True,
        decays=False,
        own=OWN,
    )
    classic = NESTEROV
    counts_steps = True
    decoupled = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        momentum: float = 0.0,
        *,
        weight_decay: float,
        nesterov: bool = False,
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
        return 2.0 / (1.0 + float(group["momentum"]))
