"""RiemannianAdam and RiemannianSGD on the unit sphere (Becigneul & Ganea, ICLR 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.optim.classic import ADAM, TORCH_SGD
from sphere_fused.optim.families import AdamFamily, MomentumFamily
from sphere_fused.optim.weights import norms
from sphere_fused.plan import GroupHyper
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, maximum, sqrt, where
from sphere_fused.segments import Dims


def riemannian_adam(gram: Gram, s: Scalar, h: Hyper) -> Update:
    # In terms of the unit vector w/r and of the new moment m = beta1 x + gain1 h.
    r = sqrt(gram.ww)
    wm = h.beta1 * gram.wx / r
    mm = h.beta1 * h.beta1 * gram.xx + 2.0 * h.beta1 * h.gain1 * gram.hx
    mm = maximum(mm + h.gain1 * h.gain1 * gram.hh, 0.0)
    s = h.beta2 * s + h.gain2 * gram.hh
    k = h.lr / (h.bc1 * (sqrt(s / h.bc2) + h.eps))
    yy = 1.0 - 2.0 * k * wm + k * k * mm
    size = sqrt(yy)
    # m - <w',m> w' = along_m m + along_w w/r, without subtracting what is nearly equal.
    along_m = (1.0 - k * wm) / yy
    along_w = (k * mm - wm) / yy
    stays = h.lr == 0
    return Update(
        s=s,
        a_w=where(stays, 1.0, 1.0 / (r * size)),
        a_x=-k * h.beta1 / size,
        a_h=-k * h.gain1 / size,
        b_w=along_w / r,
        b_x=along_m * h.beta1,
        b_h=along_m * h.gain1,
    )


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


class OnUnitSphere(SphereOptimizer):
    """Those whose segments are unit vectors from the time that the optimizer is made."""

    decoupled = False

    def prepared(
        self, group: dict[str, Any], p: torch.Tensor, inside: Dims, name: str
    ) -> torch.Tensor:
        return p.to(torch.float64) / norms(p, inside, name)


class RiemannianAdam(OnUnitSphere, AdamFamily):
    """Adam on a product of unit spheres, by projection.

        w <- w/|w|;  r = g - <w,g> w
        m <- beta1 m + (1-beta1) r;  S <- beta2 S + (1-beta2) <r,r>
        x = w - lr (m/bc1) / (sqrt(S/bc2) + eps);  w' = x/|x|;  m <- m - <w',m> w'

    The segments are normalized when the optimizer is made, as by `AdamG`, which moves along the
    sphere instead. weight_decay does nothing there. Arguments, state and errors are those of
    `AdamG`, without grad_clip. Becigneul & Ganea, ICLR 2019.
    """

    rule = Rule("riemannian adam", riemannian_adam, direction="previous")
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)


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
