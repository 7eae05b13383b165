"""LAMB: Adam whose steps are a share of the norm of each tensor (You et al., arXiv 1904.00962)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.families import AdamFamily, WholeTensors
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Scalar, Update, sqrt, where


def with_decay(gram: Gram, s: Scalar, h: Hyper) -> Update:
    return Update(s=s, a_w=h.weight_decay, a_x=1.0)


def lamb(gram: Gram, d: Landing, u: Update, h: Hyper) -> Update:
    plain = (gram.ww == 0) | (d.yy == 0) | (h.own.adapts == 0)
    lr = h.lr * where(plain, 1.0, sqrt(gram.ww) / sqrt(d.yy))
    return Update(s=u.s, a_w=1.0 - lr * u.a_w, a_x=-lr)


class LAMB(WholeTensors, AdamFamily):
    """Adam whose step is as long as lr times the weight.

        u = Adam's direction + wd w
        w <- w - lr |w|/|u| u

    Norms run over whole tensors. The ratio is 1 where either norm is 0, and, unless always_adapt,
    where weight_decay is 0: give biases and the weights of normalization layers a group with
    weight_decay=0. Gradients are not clipped.

    Args:
        always_adapt: scale steps without weight decay too.
        (the others): as `AdamS`; weight decay never enters the moments.

    State per parameter: `step`, `exp_avg` and `exp_avg_sq`, both in the shape of the parameter.
    Errors are those of `AdamS`. You et al., ICLR 2020, arXiv 1904.00962.
    """

    rule = Rule(
        "lamb",
        with_decay,
        land=lamb,
        direction="adam",
        second_moment="element",
        decays=False,
        own=("adapts",),
    )
    classic = rule

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        always_adapt: bool = False,
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def own_hyper(self, group: dict[str, Any]) -> dict[str, float]:
        return {"adapts": self.adapts(group)}
