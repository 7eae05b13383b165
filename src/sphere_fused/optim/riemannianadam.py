"""RiemannianAdam: Adam on unit spheres, by projection (Becigneul & Ganea, ICLR 2019)."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import ADAM
from sphere_fused.optim.families import AdamFamily, OnUnitSphere
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, maximum, sqrt, where


def riemannian_adam(gram: Gram, s: Scalar, h: Hyper) -> Update:
    # In terms of the unit vector w/r and of the new moment m = beta1 x + gain1 h.
    r = sqrt(gram.ww)
    wm = h.beta1 * gram.wx / r
    mm = h.beta1 * h.beta1 * gram.xx + 2.0 * h.beta1 * h.gain1 * gram.hx
    mm = mm + h.gain1 * h.gain1 * gram.hh
    s = h.beta2 * s + h.gain2 * gram.hh
    k = h.lr / (h.bc1 * (sqrt(s / h.bc2) + h.eps))
    # Where s overflows, the segment stays where it is, as Adam's weights do, however long m is.
    mm = where(k > 0, maximum(mm, 0.0), 0.0)
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
