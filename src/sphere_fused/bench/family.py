"""Every optimizer of the package as a contender: how it is made, what a step of it moves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch.optim.optimizer import Optimizer

import sphere_fused as sf
from sphere_fused.bench.names import ADAMP, GEOOPT, GEOOPT_SGD, LAMB, SGDP

# Bytes of w, g and moments of a tensor that a cache of today holds until they are read again.
ON_CHIP = 2**25


class Member(NamedTuple):
    """kind: those of one kind are timed in one case.
    make: of parameters and `backend`.
    moments: how many arrays of float32 like the weight a step reads and writes.
    of_elements: likewise, where segments are single elements.
    again: what is read twice of a tensor that does not stay on the chip, being one segment.
    peer: who does the same elsewhere, in eager PyTorch; '': nobody who can be installed.
    bound: the time of a step that is asked for, in units of torch's fused AdamW.
    """

    kind: str
    make: Callable[..., Optimizer]
    moments: int
    of_elements: int
    again: Literal["", "w g", "w m v"] = ""
    peer: str = ""
    bound: float | None = None

    def bytes_per_weight(self, size: int, in_segment: int, elements: int) -> int:
        """That must cross memory in a step, in a tensor of so many `elements` of `size` bytes: w, g
        and moments are read, w and moments written, and what is read twice."""
        moments = self.of_elements if in_segment == 1 else self.moments
        moved = 3 * size + 8 * moments
        if in_segment > 1 and elements * (2 * size + 4 * moments) > ON_CHIP:
            moved += {"": 0, "w g": 2 * size, "w m v": size + 8}[self.again]
        return moved


def adam(cls: Callable[..., Optimizer], **own: Any) -> Callable[..., Optimizer]:
    return functools.partial(cls, weight_decay=1e-2, **own)


def sgd(cls: Callable[..., Optimizer], **own: Any) -> Callable[..., Optimizer]:
    return functools.partial(cls, **{"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4, **own})


MEMBERS: dict[str, Member] = {
    "AdamS": Member("core", sf.AdamS, 1, 2),
    "AdamST": Member("core", sf.AdamST, 1, 2),
    "AdamSRT": Member("core", sf.AdamSRT, 1, 2),
    "SGDMRT": Member("core", sgd(sf.SGDMRT), 1, 1),
    "AdamP": Member("projected", adam(sf.AdamP), 2, 2, "w g", ADAMP, 1.45),
    "AdamP by filter": Member(
        "projected", adam(sf.AdamP, decision="filter"), 2, 2, peer=ADAMP, bound=1.1
    ),
    "SGDP": Member("projected", sgd(sf.SGDP), 1, 1, "w g", SGDP),
    "SGDP by filter": Member("projected", sgd(sf.SGDP, decision="filter"), 1, 1, peer=SGDP),
    "AdamH": Member("fixed radius", sf.AdamH, 2, 2, "w m v", bound=1.45),
    "NormAdamW": Member("fixed radius", adam(sf.NormAdamW), 2, 2, bound=1.1),
    "RotationalAdamW": Member("rotational", sf.RotationalAdamW, 2, 2, bound=1.1),
    "RotationalSGDM": Member("rotational", sgd(sf.RotationalSGDM), 1, 1),
    "RotationalLion": Member("rotational", adam(sf.RotationalLion), 1, 1),
    "AdamG": Member("spheres", sf.AdamG, 1, 2),
    "RiemannianAdam": Member("spheres", sf.RiemannianAdam, 1, 2, peer=GEOOPT),
    "RiemannianSGD": Member(
        "spheres", sgd(sf.RiemannianSGD, weight_decay=0.0), 1, 1, peer=GEOOPT_SGD
    ),
    "LAMB": Member("layerwise", sf.LAMB, 2, 2, "w m v", LAMB, 1.45),
    "LARS": Member("layerwise", sgd(sf.LARS, trust_coefficient=1.0), 1, 1, "w g"),
}
KINDS = tuple(dict.fromkeys(member.kind for member in MEMBERS.values()))
# How a member is run, as the part of a contender's name after the comma says, and its backend.
HOW = {"": "native", "Triton": "triton", "reference": "reference"}


def member_of(contender: str) -> Member | None:
    """None: it is not of this package."""
    name, _, how = contender.partition(", ")
    return MEMBERS.get(name) if how in (*HOW, "compiled reference", "CUDA graph") else None
