"""SGDMRT: momentum SGD with rescaling and transport of its buffer (arXiv 2006.13382)."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import SGD, elementwise
from sphere_fused.optim.families import MomentumFamily
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Update, where


def transport_buffer(gram: Gram, y: Landing, u: Update, h: Hyper) -> Update:
    moved = (gram.ww > 0) & (y.yy > 0)
    b_w = where(moved, -y.xy / y.yy, 0.0)
    b_x = where(moved, y.wy / y.yy, 1.0)
    return Update(s=u.s, a_w=u.a_w, a_x=u.a_x, b_w=b_w, b_x=b_x)


class SGDMRT(MomentumFamily):
    """SGD whose momentum is transported to the new point.

        b <- momentum b + (1-dampening) g
        w' = w - lr b
        b <- (<w,w'> b - <b,w'> w) / <w',w'>

    Segments of one element are stepped by torch.optim.SGD's formula, except that dampening also
    scales the first gradient.

    Args:
        momentum: decay of the buffer; with 0 no buffer is kept.
        dampening: the gradient enters the buffer with weight `1 - dampening`.
        (the others): as `AdamS`.

    State per parameter: `momentum_buffer` (the shape of the parameter; float32, or float64 for
    float64 parameters), made when momentum is above 0 and left alone while it is 0. In float32 a
    weight whose square over a segment exceeds 3e38 makes the buffer NaN. Errors are those of
    `AdamS`. Roburin et al., arXiv 2006.13382.
    """

    rule = Rule("sgdmrt", elementwise, transport_buffer, second_moment=None)
    classic = SGD

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        channel_dims: tuple[int, ...] | None = (0,),
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)
