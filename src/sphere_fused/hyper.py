"""The hyperparameters of parameter groups, and what a step makes of them."""

from __future__ import annotations

import collections
import math
from typing import Any, NamedTuple

import torch

from sphere_fused.rule import Hyper, Rule


def at_hand(value: float | torch.Tensor) -> float | torch.Tensor:
    """`value` as a number, or as it is on a device, where reading it would wait."""
    return value if isinstance(value, torch.Tensor) and not value.is_cpu else float(value)


def in_double(value: float | torch.Tensor) -> Any:
    """A number, or a 0-d tensor, which leaves the dtype of what it is multiplied with alone."""
    return value.reshape(()).double() if isinstance(value, torch.Tensor) else value


# A named tuple without fields, of rules that have no hyperparameters of their own.
NO_OWN: Any = collections.namedtuple("Own", ())()


class GroupHyper(NamedTuple):
    """The hyperparameters of a parameter group; see rule.Hyper.

    Those that may be tensors are one-element tensors on a device, where reading them would wait.
    """

    lr: float | torch.Tensor
    beta1: float
    gain1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    grad_clip: float = math.inf
    beta3: float = 0.0
    # Of what x is made, before bias corrections: ahead_m m + ahead_g g.
    ahead_m: float = 1.0
    ahead_g: float = 0.0
    corrects: bool = True  # moments are corrected for their bias
    maximize: bool = False
    own: Any = NO_OWN  # as in Hyper
    grad_scale: float | torch.Tensor = 1.0  # what gradients are to be divided by
    found_inf: float | torch.Tensor = 0.0  # not 0: the step changes nothing; same in all groups

    def is_numbers(self) -> bool:
        """Whether no tensor is among them."""
        return (
            isinstance(self.lr, float)
            and isinstance(self.grad_scale, float)
            and isinstance(self.found_inf, float)
        )

    def on(self, device: torch.device) -> GroupHyper:
        """The same with tensors on `device`; with numbers if that is the CPU, which may wait."""
        if self.is_numbers():
            return self

        def moved(value: float | torch.Tensor) -> float | torch.Tensor:
            if device.type == "cpu":
                return float(value)
            return value.to(device) if isinstance(value, torch.Tensor) else value

        return self._replace(
            lr=moved(self.lr),
            grad_scale=moved(self.grad_scale),
            found_inf=moved(self.found_inf),
        )

    def at(self, step: Any, rule: Rule, dim: int, numel: int) -> Hyper:
        """The Hyper of step number `step` (a number or a 0-d tensor) of a parameter with `numel`
        elements in segments of `dim`."""
        lr = in_double(self.lr)
        coupled = rule.decays and not self.decoupled
        decoupled = rule.decays and self.decoupled
        bc1 = 1.0 - self.beta1**step if self.corrects else 1.0
        bc2 = 1.0 - self.beta2**step if self.corrects else 1.0
        return Hyper(
            lr=lr,
            beta1=self.beta1,
            gain1=self.gain1,
            beta2=self.beta2,
            gain2=1.0 - self.beta2,
            beta3=self.beta3,
            gain3=1.0 - self.beta3,
            bc1=bc1,
            bc2=bc2,
            bc3=1.0 - self.beta3**step,
            t=step,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decay=1.0 - lr * self.weight_decay if decoupled else 1.0,
            grad_clip=self.grad_clip,
            dim=float(dim),
            sqrt_dim=math.sqrt(dim),
            numel=float(numel),
            l2=self.weight_decay if coupled else 0.0,
            unscale=(-1.0 if self.maximize else 1.0) / in_double(self.grad_scale),
            x_m=self.ahead_m * bc2**0.5 / bc1,
            x_g=self.ahead_g * bc2**0.5 / bc1,
            x_eps=self.eps * bc2**0.5,
            own=self.own,
        )


def placed(hypers: list[GroupHyper], device: torch.device) -> tuple[list[Any], list[torch.Tensor]]:
    """`hypers` with where each tensor is on `device` instead of it, (address, whether a double lies
    there and not a float); and the tensors, which must be kept until the step is enqueued."""
    if all(hyper.is_numbers() for hyper in hypers):
        return hypers, []
    here: dict[int, torch.Tensor] = {}  # by id, because groups share them

    def place(value: float | torch.Tensor, *besides: torch.dtype) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        tensor = here.get(id(value))
        if tensor is None:
            dtype = value.dtype if value.dtype in besides else torch.float32
            tensor = here[id(value)] = value.to(device, dtype, non_blocking=True)
        return tensor.data_ptr(), tensor.dtype == torch.float64

    with_addresses = [
        hyper._replace(
            lr=place(hyper.lr, torch.float64),
            grad_scale=place(hyper.grad_scale),
            found_inf=place(hyper.found_inf),
        )
        for hyper in hypers
    ]
    return with_addresses, list(here.values())
