"""AdamP: no step along what only scales the weight (Heo et al., arXiv 2006.08217)."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.arguments import given, in_range
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.optim.classic import ADAM
from sphere_fused.optim.families import AdamFamily
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, maximum, sqrt, where
from sphere_fused.segments import Dims


def cosine(gram: Gram, h: Hyper) -> Scalar:
    c = gram.wg / (maximum(sqrt(gram.gg), h.eps) * maximum(sqrt(gram.ww), h.eps))
    return maximum(c, -c)


def filters_or_tensor(whole: Gram, peak: Scalar, h: Hyper) -> Scalar:
    # Where every filter is orthogonal to its gradient: 1, each by itself. Else where the tensor is:
    # 2, the tensor as one. Else 0: it is not scale-invariant.
    c = whole.wg / (maximum(sqrt(whole.gg), h.eps) * maximum(sqrt(whole.ww), h.eps))
    of_tensor = where(maximum(c, -c) < h.own.delta / sqrt(h.numel), 2.0, 0.0)
    return where(peak < h.own.delta / h.sqrt_dim, 1.0, of_tensor)


def projected(gram: Gram, s: Scalar, h: Hyper) -> Update:
    n = sqrt(gram.ww) + h.eps
    radial = where(h.verdict > 0, gram.wx / (n * n), 0.0)
    decay = h.weight_decay * where(h.verdict > 0, h.own.wd_ratio, 1.0)
    return Update(s=s, a_w=1.0 - h.lr * decay + h.lr * radial, a_x=-h.lr)


def projected_by_filter(gram: Gram, s: Scalar, h: Hyper) -> Update:
    c = gram.wg / (maximum(sqrt(gram.gg), h.eps) * maximum(sqrt(gram.ww), h.eps))
    is_orthogonal = maximum(c, -c) < h.own.delta / h.sqrt_dim
    n = sqrt(gram.ww) + h.eps
    radial = where(is_orthogonal, gram.wx / (n * n), 0.0)
    decay = h.weight_decay * where(is_orthogonal, h.own.wd_ratio, 1.0)
    return Update(s=s, a_w=1.0 - h.lr * decay + h.lr * radial, a_x=-h.lr)


class Projecting(SphereOptimizer):
    """What AdamP and SGDP share: which tensors are projected, and who decides."""

    def rule_in(self, group: dict[str, Any]) -> Rule:
        return self.rule if group["decision"] == "tensor" else self.other_rules[0]

    def inside_segment(self, group: dict[str, Any], p: torch.Tensor, name: str) -> Dims:
        return tuple(range(1, p.dim()))

    def is_elementwise(self, group: dict[str, Any], p: torch.Tensor, inside: Dims) -> bool:
        return p.dim() <= 1

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        super().check_hyperparameters(group)
        in_range(group["delta"], "delta")
        in_range(group["wd_ratio"], "wd_ratio")
        if group["decision"] not in ("tensor", "filter"):
            raise ValueError(f'decision must be "tensor" or "filter", not {group["decision"]!r}')


OWN = ("delta", "wd_ratio")


class AdamP(Projecting, AdamFamily):
    """AdamW whose step has no radial part where the gradient shows that the loss does not depend on
    the norm of the weight.

        u = Adam's direction;  n = w / (|w| + eps)
        u <- u - <n,u> n,  wd <- wd_ratio wd      where w is orthogonal to g
        w <- (1 - lr wd) w - lr u

    Orthogonal is a cosine below delta / sqrt(D). `decision="tensor"`, as in the released code: if
    all filters are, they are projected one by one; if not, but the whole tensor is, as one.
    `"filter"`: each filter decides for itself, which takes one pass over memory instead of two.
    Parameters with one dimension are stepped by AdamW.

    Args:
        delta: how orthogonal; 0 is AdamW.
        wd_ratio: of the weight decay, what is left to projected weights.
        nesterov: look ahead, `beta1 m + (1-beta1) g` instead of m.
        decision: "tensor" or "filter".
        (the others): as `AdamS`; weight decay is decoupled.

    State per parameter: `step`, `exp_avg` and `exp_avg_sq`, both in the shape of the parameter.
    Errors are those of `AdamS`. Heo et al., ICLR 2021, arXiv 2006.08217.
    """

    rule = Rule(
        "adamp",
        projected,
        direction="adam",
        second_moment="element",
        decays=False,
        peak=cosine,
        verdict=filters_or_tensor,
        own=OWN,
    )
    other_rules = (
        Rule(
            "adamp by filter",
            projected_by_filter,
            direction="adam",
            second_moment="element",
            decays=False,
            own=OWN,
        ),
    )
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        decision: str = "tensor",
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
        if not group["nesterov"]:
            return hyper
        return hyper._replace(ahead_m=hyper.beta1, ahead_g=hyper.gain1)
