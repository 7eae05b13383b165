"""What several optimizers have in common: how they average, and what a segment is to them."""

from __future__ import annotations

import math
from typing import Any

import torch

from sphere_fused.entry import Entry
from sphere_fused.hyper import GroupHyper
from sphere_fused.optim.arguments import in_range, number
from sphere_fused.optim.base import SphereOptimizer
from sphere_fused.optim.weights import norms
from sphere_fused.segments import Dims


class OnUnitSphere(SphereOptimizer):
    """Those whose segments are unit vectors from the time that the optimizer is made."""

    decoupled = False

    def prepared(
        self, group: dict[str, Any], p: torch.Tensor, inside: Dims, name: str
    ) -> torch.Tensor:
        return p.to(torch.float64) / norms(p, inside, name)

    def probable_mistakes(self, entries: list[Entry]) -> list[str]:
        found = super().probable_mistakes(entries)
        decaying = (e for e in entries if self.param_groups[e.group]["weight_decay"])
        if any(not e.elementwise for e in decaying):
            found.append(
                f"weight_decay does nothing to the unit vectors of {type(self).__name__}, only to "
                f"parameters without segments, such as biases: give these a group of their own if "
                f"they are to decay"
            )
        return found


class WholeTensors(SphereOptimizer):
    """Those to whom any tensor is one segment, single numbers and vectors included."""

    def inside_segment(self, group: dict[str, Any], p: torch.Tensor, name: str) -> Dims:
        return tuple(range(p.dim()))

    def is_elementwise(self, group: dict[str, Any], p: torch.Tensor, inside: Dims) -> bool:
        return False

    def adapts(self, group: dict[str, Any]) -> float:
        """Whether steps are scaled to norms, which they are not without weight decay."""
        return float(group["weight_decay"] != 0 or bool(group["always_adapt"]))


class AdamFamily(SphereOptimizer):
    """Those with lr, betas, eps and weight_decay; see `AdamS` for what they mean."""

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        super().check_hyperparameters(group)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)):
            raise TypeError(f"betas must be two numbers, not {betas!r}")
        in_unit = [0.0 <= number(b, f"betas[{i}]") < 1.0 for i, b in enumerate(betas)]
        if in_unit != [True, True]:
            raise ValueError(f"betas must be two numbers in [0, 1), not {betas}")
        if "eps" in group:
            in_range(group["eps"], "eps")

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        return self.shared_hyper(group, beta1, 1.0 - beta1, beta2, float(group["eps"]))


class MomentumFamily(SphereOptimizer):
    """Those with lr, momentum, dampening, nesterov and weight_decay, where they have them.

        b <- momentum b + (1-dampening) g;  the direction is b, or g + momentum b with nesterov

    The buffer b is made when momentum is above 0, and left alone while it is 0.
    """

    moment_key = "momentum_buffer"
    counts_steps = False

    def check_hyperparameters(self, group: dict[str, Any]) -> None:
        super().check_hyperparameters(group)
        in_range(group["momentum"], "momentum")
        if not math.isfinite(number(group.get("dampening", 0.0), "dampening")):
            raise ValueError(f"dampening must be finite, not {group['dampening']}")
        if "eps" in group:
            in_range(group["eps"], "eps")

    def keeps_moment(self, group: dict[str, Any]) -> bool:
        return group["momentum"] != 0.0

    def hyper(self, group: dict[str, Any]) -> GroupHyper:
        momentum, gain = float(group["momentum"]), 1.0 - float(group.get("dampening", 0.0))
        hyper = self.shared_hyper(group, momentum, gain, eps=float(group.get("eps", 0.0)))
        # Of the old buffer: momentum * old + gain g, or g and momentum times that.
        ahead = (momentum, gain)
        if group.get("nesterov", False):
            ahead = (momentum * momentum, 1.0 + momentum * gain)
        return hyper._replace(corrects=False, ahead_m=ahead[0], ahead_g=ahead[1])
