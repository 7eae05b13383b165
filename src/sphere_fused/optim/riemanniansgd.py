"""RiemannianSGD: momentum SGD on unit spheres, by projection (Becigneul & Ganea, ICLR 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import TORCH_SGD
from sphere_fused.optim.families import MomentumFamily, OnUnitSphere
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, sqrt, where


def riemannian_sgd(gram: Gram, s: Scalar, h: Hyper) -> Update:
    r = sqrt(gram.ww)
    # The buffer starts at the first gradient as it is: momentum times that enters the first step.
    first = where(h.t > 1, 0.0, h.beta1)
    # b = b_w w + b_x x + b_h h, and y = w/r - lr d, where d is b, or h + momentum b.
    b_w = first * (gram.wg / gram.ww - h.l2)
    b_x = h.beta1
    b_h = h.gain1 + first
    lr = h.lr * where(h.own.nesterov > 0, h.beta1, 1.0)
    y_w = 1.0 / r - lr * b_w
    y_x = -lr * b_x
    y_h = -lr * b_h - h.lr * h.own.nesterov
    yy = y_w * y_w * gram.ww + y_x * y_x * gram.xx + y_h * y_h * gram.hh
    yy = yy + 2.0 * y_x * (y_w * gram.wx + y_h * gram.hx)
    # A step that would land on 0 leaves w.
    stays = (h.lr == 0) | (yy == 0)
    yy = where(stays, 1.0, yy)
    y_w = where(stays, 1.0 / r, y_w)
    y_x = where(stays, 0.0, y_x)
    y_h = where(stays, 0.0, y_h)
    # On the sphere: w' = y/|y|, b' = b - <w',b> w'.
    yb = y_w * (b_w * gram.ww + b_x * gram.wx) + y_h * (b_x * gram.hx + b_h * gram.hh)
    yb = yb + y_x * (b_w * gram.wx + b_x * gram.xx + b_h * gram.hx)
    e = yb / yy
    size = sqrt(yy)
    return Update(
        s=s,
        a_w=where(stays, 1.0, y_w / size),
        a_x=y_x / size,
        a_h=y_h / size,
        b_w=b_w - e * y_w,
        b_x=b_x - e * y_x,
        b_h=b_h - e * y_h,
    )


class RiemannianSGD(OnUnitSphere, MomentumFamily):
    """Momentum SGD on a product of unit spheres, by projection.

        w <- w/|w|;  r = g - <g,w> w
        b <- momentum b + (1-dampening) r;  d = b, with nesterov r + momentum b
        x = w - lr d;  w' = x/|x|;  b <- b - <w',b> w'

    b starts at the first gradient; without momentum d is r. Parameters whose segments have one
    element are stepped by torch.optim.SGD. In float32 a gradient whose square over a segment
    exceeds 3e38 loses the segment: it becomes 0, and then NaN.

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
