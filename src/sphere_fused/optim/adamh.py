"""AdamH: steps whose length is a share of the weight's norm (Wen et al., arXiv 2606.16899)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given
from sphere_fused.optim.classic import ADAM
from sphere_fused.optim.families import AdamFamily
from sphere_fused.optim.weights import norms
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Scalar, Update, sqrt, where
from sphere_fused.segments import Dims


def adamh(gram: Gram, s: Scalar, h: Hyper) -> Update:
    size = sqrt(gram.xx)
    return Update(s=s, a_w=1.0, a_x=where(size == 0, 0.0, -h.lr * gram.radius / size))


def to_radius(gram: Gram, y: Landing, u: Update, h: Hyper) -> Update:
    # A step that is 0, or would land on 0, leaves w.
    stays = (y.yy == 0) | (u.a_x == 0)
    scale = gram.radius / sqrt(y.yy)
    a_w = where(stays, 1.0, scale * u.a_w)
    return Update(s=u.s, a_w=a_w, a_x=where(stays, 0.0, scale * u.a_x))


class AdamH(AdamFamily):
    """Adam's direction on a ball of the weight's own radius.

        u = Adam's direction;  R = |w| before the first step
        x = w - lr R u/|u|;  w = R x/|x|

    Norms run over whole tensors, unless channel_dims says otherwise. The learning rate is the size
    of a step in units of R, and there is no weight decay.

    Args:
        channel_dims: `()`, the whole tensor, or as `AdamS`.
        (the others): as `AdamS`.

    State per parameter: `step`, `exp_avg` and `exp_avg_sq` in the shape of the parameter, and
    `radius` with size 1 in the dims inside a segment. Parameters with one dimension are stepped by
    Adam, and have no radius.

    Raises:
        ValueError: also for a segment that is zero. RuntimeError: also for one on the meta device.
            Otherwise as `AdamS`.

    Wen et al., arXiv 2606.16899.
    """

    rule = Rule(
        "adamh",
        adamh,
        land=to_radius,
        direction="adam",
        second_moment="element",
        keeps_radius=True,
    )
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 5e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.95),
        eps: float = 1e-8,
        *,
        channel_dims: tuple[int, ...] | None = (),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def is_elementwise(self, group: dict[str, Any], p: torch.Tensor, inside: Dims) -> bool:
        return p.dim() <= 1 or group["channel_dims"] is None

    def prepared(self, group: dict[str, Any], p: torch.Tensor, inside: Dims, name: str) -> None:
        norms(p, inside, name)  # which refuses zeros
