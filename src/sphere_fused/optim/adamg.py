"""AdamG: Adam on a product of unit spheres (Cho & Lee, NeurIPS 2017, arXiv 1709.09603)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.adams import AdamS
from sphere_fused.optim.arguments import given, number
from sphere_fused.optim.families import AdamFamily, OnUnitSphere
from sphere_fused.rule import (
    Gram,
    Hyper,
    Rule,
    Scalar,
    Update,
    cos,
    maximum,
    sin,
    sqrt,
    where,
)


def adamg(gram: Gram, s: Scalar, h: Hyper) -> Update:
    r = sqrt(gram.ww)
    size = sqrt(gram.hh)
    clip = where(size > h.grad_clip, h.grad_clip / size, 1.0)
    # Where <h,h> overflows, clipping leaves nothing.
    hh = where(clip > 0, clip * clip * gram.hh, 0.0)
    # x is the old moment, and the new one beta1 x + p h: a clipped h loses no digits.
    p = h.gain1 * clip
    mm = h.beta1 * h.beta1 * gram.xx + 2.0 * h.beta1 * p * gram.hx + h.gain1 * h.gain1 * hh
    s = h.beta2 * s + h.gain2 * hh
    k = h.lr * sqrt(h.bc2) / (h.bc1 * sqrt(s + h.eps))
    # Where s overflows, the segment stays where it is, as Adam's weights do, however long m is.
    norm = where(k > 0, sqrt(maximum(mm, 0.0)), 0.0)
    angle = k * norm
    sinc = where(angle < 1e-4, 1.0 - angle * angle / 6.0, sin(angle) / angle)
    a_x = -sinc * k * h.beta1
    a_h = -sinc * k * p
    b_x = cos(angle) * h.beta1
    b_h = cos(angle) * p
    return Update(
        s=s,
        # With lr = 0 weights stay, to the bit: torch.distributed.checkpoint steps so to make state.
        a_w=where(h.lr > 0, cos(angle) / r, 1.0),
        a_x=a_x,
        a_h=a_h,
        b_w=norm * sin(angle) / r,
        b_x=b_x,
        b_h=b_h,
    )


class AdamG(OnUnitSphere, AdamS):
    """Adam whose segments are unit vectors, moved along geodesics of the sphere.

        w <- w/|w|;  h = g - <g,w> w;  h <- h min(1, grad_clip/|h|)
        m <- beta1 m + (1-beta1) h;  S <- beta2 S + (1-beta2) <h,h>
        d = -lr sqrt(bc2)/bc1 m / sqrt(S + eps)
        w' = cos|d| w + sin|d|/|d| d;  m <- cos|d| m + |m| sin|d| w

    The segments are normalized when the optimizer is made, so make it before anything reads the
    weights, and load a checkpoint's weights after that, to have them as they were saved. Weight
    decay does nothing on the sphere; a step with lr = 0 leaves the weights as they are.

    Args:
        lr: the learning rate; an angle per step, about.
        grad_clip: the largest norm of a segment's gradient h, or None.
        (the others): as `AdamS`. State as `AdamS`.

    Raises:
        ValueError: also for a segment that is zero. RuntimeError: also for one on the meta
            device. Otherwise as `AdamS`.

    Cho & Lee, arXiv 1709.09603.
    """

    rule = Rule("adamg", adamg, direction="previous")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        grad_clip: float | None = None,
        channel_dims: tuple[int, ...] | None = (0,),
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        AdamFamily.__init__(self, params, given(locals()), own)

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        super().check_hyperparameters(group)
        clip = group["grad_clip"]
        if clip is not None and not number(clip, "grad_clip") > 0.0:
            raise ValueError(f"grad_clip must be above 0 or None, not {clip}")

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        hyper = super().hyper(group)
        if group["grad_clip"] is None:
            return hyper
        return hyper._replace(grad_clip=float(group["grad_clip"]))
