"""RiemannianSGD: momentum SGD on unit spheres, by projection (Becigneul & Ganea, ICLR 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import TORCH_SGD
from sphere_fused.optim.families import MomentumFamily, OnUnitSphere
from sphere_fused.plan import GroupHyper
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, sqrt, where


def riemannian_sgd(gram: Gram, s: Scalar, h: Hyper) -> Update:
    r = sqrt(gram.ww)
    # The buffer starts at the first gradient as it is: momentum times that enters the first step.
    first = where(h.t > 1, 0.0, h.beta1)
    # b = b_w w + beta1 x + b_h h, and the direction d = b, or h + momentum b.
    b_w = first * (gram.wg / gram.ww - h.l2)
    b_h = h.gain1 + first
    of_b = where(h.own.nesterov > 0, h.beta1, 1.0)
    d_w = of_b * b_w
    d_x = of_b * h.beta1
    d_h = of_b * b_h + h.own.nesterov
    wb = b_w * gram.ww + h.beta1 * gram.wx
    wd = d_w * gram.ww + d_x * gram.wx
    db = d_w * wb + d_x * (b_w * gram.wx + h.beta1 * gram.xx + b_h * gram.hx)
    db = db + d_h * (h.beta1 * gram.hx + b_h * gram.hh)
    dd = d_w * wd + d_x * (d_w * gram.wx + d_x * gram.xx + d_h * gram.hx)
    dd = dd + d_h * (d_x * gram.hx + d_h * gram.hh)
    # y = w/r - lr d, on the sphere w' = y/|y|, and b' = b - <w',b> w'.
    yy = 1.0 - 2.0 * h.lr * wd / r + h.lr * h.lr * dd
    size = sqrt(yy)
    e = (wb / r - h.lr * db) / yy
    stays = h.lr == 0
    return Update(
        s=s,
        a_w=where(stays, 1.0, (1.0 / r - h.lr * d_w) / size),
        a_x=-h.lr * d_x / size,
        a_h=-h.lr * d_h / size,
        b_w=b_w - e * (1.0 / r - h.lr * d_w),
        b_x=h.beta1 + e * h.lr * d_x,
        b_h=b_h + e * h.lr * d_h,
    )


class RiemannianSGD(OnUnitSphere, MomentumFamily):
    """Momentum SGD on a product of unit spheres, by projection.

        w <- w/|w|;  r = g - <g,w> w
        b <- momentum b + (1-dampening) r;  d = b, with nesterov r + momentum b
        x = w - lr d;  w' = x/|x|;  b <- b - <w',b> w'

    b starts at the first gradient; without momentum d is r. Parameters whose segments have one
    element are stepped by torch.optim.SGD.

    Args:
        momentum, dampening, nesterov: as torch.optim.SGD.
        (the others): as `RiemannianAdam`.

    State per parameter: `step`, and `momentum_buffer` where momentum is above 0. Errors are those
    of `AdamG`. Becigneul & Ganea, ICLR 2019.
    """

    rule = Rule(
        "riemannian sgd",
        riemannian_sgd,
        direction="previous",
        second_moment=None,
        own=("nesterov",),
    )
    classic = TORCH_SGD
    counts_steps = True

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        hyper = super().hyper(group)
        return hyper if hyper.beta1 else hyper._replace(gain1=1.0)
