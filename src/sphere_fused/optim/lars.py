"""LARS: momentum SGD with gradients scaled to each tensor's norm (You et al., arXiv 1708.03888)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.arguments import given, in_range
from sphere_fused.optim.families import MomentumFamily, WholeTensors
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, sqrt, where


def lars(gram: Gram, s: Scalar, h: Hyper) -> Update:
    w = sqrt(gram.ww)
    g = sqrt(gram.gg)
    plain = (w == 0) | (g == 0) | (h.own.adapts == 0)
    trust = h.own.trust_coefficient * w / (g + h.weight_decay * w + h.eps)
    ratio = where(plain, 1.0, trust)
    # The gradient becomes ratio (g + wd w), g being h + radial w: e_h h + e_w w.
    radial = where(gram.ww > 0, gram.wg / gram.ww, 0.0)
    e_w = ratio * (radial + h.weight_decay)
    # b = momentum x + gain e, where the first is not damped; the direction b, or e + momentum b.
    gain = where(h.t > 1, h.gain1, 1.0)
    of_b = where(h.own.nesterov > 0, h.beta1, 1.0)
    of_e = of_b * gain + h.own.nesterov
    return Update(
        s=s,
        a_w=1.0 - h.lr * of_e * e_w,
        a_x=-h.lr * of_b * h.beta1,
        a_h=-h.lr * of_e * ratio,
        b_w=gain * e_w,
        b_x=h.beta1,
        b_h=gain * ratio,
    )


class LARS(WholeTensors, MomentumFamily):
    """Momentum SGD whose gradients are scaled to the norm of the weight.

        g <- trust_coefficient |w| / (|g| + wd |w| + eps) (g + wd w)
        b <- momentum b + (1-dampening) g;  w <- w - lr b, with nesterov w - lr (g + momentum b)

    Norms run over whole tensors. The factor is 1 where either norm is 0, and, unless always_adapt,
    where weight_decay is 0. b starts at the first gradient, as torch.optim.SGD's does.

    Args:
        momentum, dampening, nesterov: as torch.optim.SGD.
        trust_coefficient: the length of a step, in units of lr |w|.
        eps: added to what is divided by.
        always_adapt: scale gradients without weight decay too.
        (the others): as `AdamS`.

    State per parameter: `step`, and `momentum_buffer` where momentum is above 0. Errors are those
    of `AdamS`. You et al., arXiv 1708.03888.
    """

    rule = Rule(
        "lars",
        lars,
        direction="previous",
        second_moment=None,
        decays=False,
        own=("adapts", "trust_coefficient", "nesterov"),
    )
    classic = rule
    counts_steps = True

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1.0,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        always_adapt: bool = False,
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
        in_range(group["trust_coefficient"], "trust_coefficient")

    def own_hyper(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "adapts": self.adapts(group),
            "trust_coefficient": float(group["trust_coefficient"]),
            "nesterov": float(group["nesterov"]),
        }

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        hyper = super().hyper(group)
        return hyper if hyper.beta1 else hyper._replace(gain1=1.0)
