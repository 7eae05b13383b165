"""What the rotational optimizers share (Kosson et al., ICML 2024, arXiv 2305.17212)."""

from __future__ import annotations

from typing import Any

import torch

from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.arguments import in_range
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.optim.weights import centred, norms
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
    # Of a d that is 0 no multiple is anything but rounding.
    k = where(d.yy == 0, 0.0, k)
    yy = gram.ww - 2.0 * k * d.wy + k * k * d.yy
    stays = (yy == 0) | (k == 0)
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
    made, at the same norm; of two elements they then cannot turn. Where weight_decay is 0, and for
    parameters of one dimension and segments of one element, the underlying optimizer itself steps.
    """

    def shared_hyper(self, group: dict[str, Any], *numbers: float, **others: float) -> GroupHyper:
        hyper = super().shared_hyper(group, *numbers, **others)
        return hyper._replace(beta3=float(group["update_norm_decay_factor"]))

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
        is_classic = group["weight_decay"] == 0 or p.dim() <= 1
        return is_classic or super().is_elementwise(group, p, inside)

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
