"""RotationalAdamW, RotationalSGDM and RotationalLion (Kosson et al., arXiv 2305.17212)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from sphere_fused.optim.arguments import given, in_range
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.optim.classic import ADAM, LION, NESTEROV
from sphere_fused.optim.families import AdamFamily, MomentumFamily
from sphere_fused.optim.weights import centred, norms
from sphere_fused.plan import GroupHyper
from sphere_fused.rule import Gram, Hyper, Landing, Rule, Scalar, Update, sqrt, where
from sphere_fused.segments import Dims


def tangential(gram: Gram, s: Scalar, h: Hyper) -> Update:
    # d = x without its mean and without what is then radial.
    mean = where(h.own.zero_mean > 0, gram.sx / h.dim, 0.0)
    radial = where(gram.ww > 0, (gram.wx - mean * gram.sw) / gram.ww, 0.0)
    return Update(s=s, a_w=-radial, a_x=1.0, a_1=-mean)


def rotate(gram: Gram, d: Landing, u: Update, h: Hyper) -> Update:
    # y = w - k d, whose norm is then made the radius.
    q = h.beta3 * u.s + h.gain3 * d.yy
    eta = sqrt(h.lr * h.own.rate)
    k = eta * gram.radius / (sqrt(q / h.bc3) + h.own.rotational_eps)
    yy = gram.ww - 2.0 * k * d.wy + k * k * d.yy
    stays = (yy == 0) | (eta == 0)
    scale = gram.radius / sqrt(yy)
    a_w = where(stays, 1.0, scale * (1.0 - k * u.a_w))
    a_x = where(stays, 0.0, -scale * k * u.a_x)
    return Update(s=q, a_w=a_w, a_x=a_x, a_1=where(stays, 0.0, -scale * k * u.a_1))


class Rotational(SphereOptimizer):
    """What the three share: every filter turns by the same angle on average.

        n = |w| before the first step
        d = u;  d <- d - mean(d) if zero_mean;  d <- d - w <d,w>/n^2
        q <- f q + (1-f) <d,d>,  f = update_norm_decay_factor
        w <- w - eta n d / (sqrt(q / (1-f^t)) + rotational_eps);  w <- n w/|w|

    There is no weight decay: the decay that the underlying optimizer would have sets eta, the angle
    at which it would come to rest. With zero_mean segments are also centred when the optimizer is
    made, at the same norm. Where weight_decay is 0, and for segments of one element, the underlying
    optimizer itself steps.
    """

    def own_hyper(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "rate": self.rate(group) * float(group["weight_decay"]),
            "zero_mean": float(group["zero_mean"]),
            "rotational_eps": float(group["rotational_eps"]),
        }

    def rate(self, group: dict[str, Any]) -> float:
        """eta^2 / (lr * weight_decay)."""
        raise NotImplementedError

    def rule_in(self, group: dict[str, Any]) -> Rule:
        return self.rule if group["weight_decay"] != 0 else self.classic

    def is_elementwise(self, group: dict[str, Any], p: torch.Tensor, inside: Dims) -> bool:
        return group["weight_decay"] == 0 or super().is_elementwise(group, p, inside)

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        super().check_hyperparameters(group)
        in_range(group["rotational_eps"], "rotational_eps")
        in_range(group["update_norm_decay_factor"], "update_norm_decay_factor", below=1.0)

    def prepared(
        self, group: dict[str, Any], p: torch.Tensor, inside: Dims, name: str
    ) -> torch.Tensor | None:
        if group["zero_mean"]:
            return centred(p, inside, name)
        norms(p, inside, name)  # which refuses zeros
        return None


OWN = ("rate", "zero_mean", "rotational_eps")


class RotationalAdamW(Rotational, AdamFamily):
    """AdamW that turns weights by a controlled angle.

        u = Adam's direction;  eta = sqrt(2 lr wd (1-beta1)/(1+beta1))

    and w as `Rotational` says.

    Args:
        zero_mean: keep the mean of every segment at 0.
        update_norm_decay_factor: f, of the average of the squared length of d.
        rotational_eps: added to the root of that average.
        (the others): as `AdamS`.

    State per parameter: `step`, `exp_avg` and `exp_avg_sq` in the shape of the parameter, `radius`
    (n) and `update_norm_sq` (q) with size 1 in the dims inside a segment. Errors are those of
    `AdamH`. Kosson et al., ICML 2024, arXiv 2305.17212.
    """

    rule = Rule(
        "rotational adamw",
        tangential,
        land=rotate,
        direction="adam",
        second_moment="element",
        segment_state="update_norm_sq",
        keeps_radius=True,
        own=OWN,
    )
    classic = ADAM

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        zero_mean: bool = True,
        update_norm_decay_factor: float = 0.9,
        rotational_eps: float = 1e-8,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def rate(self, group: dict[str, Any]) -> float:
        beta1 = float(group["betas"][0])
        return 2.0 * (1.0 - beta1) / (1.0 + beta1)

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        return super().hyper(group)._replace(beta3=float(group["update_norm_decay_factor"]))


class RotationalSGDM(Rotational, MomentumFamily):
    """Momentum SGD that turns weights by a controlled angle.

        b <- momentum b + g;  u = b, with nesterov g + momentum b;  eta = sqrt(2 lr wd/(1+momentum))

    and w as `Rotational` says.

    Args:
        nesterov: as torch.optim.SGD.
        (the others): as `RotationalAdamW`; the weight decay of parameters that SGD steps is L2.

    State per parameter: `step`, `momentum_buffer` (where momentum is above 0), `radius` and
    `update_norm_sq` as `RotationalAdamW`. Errors are those of `AdamH`. Kosson et al., ICML 2024,
    arXiv 2305.17212.
    """

    rule = Rule(
        "rotational sgdm",
        tangential,
        land=rotate,
        direction="nesterov",
        second_moment=None,
        segment_state="update_norm_sq",
        keeps_radius=True,
        decays=False,
        own=OWN,
    )
    classic = NESTEROV
    counts_steps = True
    decoupled = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        momentum: float = 0.0,
        *,
        weight_decay: float,
        nesterov: bool = False,
        zero_mean: bool = True,
        update_norm_decay_factor: float = 0.9,
        rotational_eps: float = 1e-8,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def rate(self, group: dict[str, Any]) -> float:
        return 2.0 / (1.0 + float(group["momentum"]))

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        return super().hyper(group)._replace(beta3=float(group["update_norm_decay_factor"]))


class RotationalLion(Rotational, AdamFamily):
    """Lion that turns weights by a controlled angle.

        u = sign(beta1 m + (1-beta1) g);  m <- beta2 m + (1-beta2) g
        eta = sqrt(pi/2) sqrt(2 lr wd) sqrt((1-beta1)^2 + beta1^2 (1-beta2)/(1+beta2))

    and w as `Rotational` says. Arguments are those of `RotationalAdamW`, without eps; state too,
    without `exp_avg_sq`. Kosson et al., ICML 2024, arXiv 2305.17212.
    """

    rule = Rule(
        "rotational lion",
        tangential,
        land=rotate,
        direction="sign",
        second_moment=None,
        segment_state="update_norm_sq",
        keeps_radius=True,
        own=OWN,
    )
    classic = LION

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-4,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.99),
        *,
        weight_decay: float,
        zero_mean: bool = True,
        update_norm_decay_factor: float = 0.9,
        rotational_eps: float = 1e-8,
        channel_dims: tuple[int, ...] | None = (0,),
        maximize: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        backend: str | None = None,
        **own: float,
    ) -> None:
        super().__init__(params, given(locals()), own)

    def rate(self, group: dict[str, Any]) -> float:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        return math.pi * ((1.0 - beta1) ** 2 + beta1**2 * (1.0 - beta2) / (1.0 + beta2))

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        return self.shared_hyper(group, beta2, 1.0 - beta2)._replace(
            corrects=False,
            ahead_m=beta1,
            ahead_g=1.0 - beta1,
            beta3=float(group["update_norm_decay_factor"]),
        )
