"""Optimizers of other packages that do the work closest to AdamSRT's; each where it is installed.

A package is imported when its optimizer is made. All keep two moments for every weight.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import torch
from torch.optim.optimizer import Optimizer, ParamsT

from sphere_fused.bench.names import ADAMP, ADAMP_AGAIN, APEX, GEOOPT, HEAVYBALL, OPTIMI


class Peer(NamedTuple):
    """`package` is what pip calls it."""

    package: str
    about: str
    make: Callable[[ParamsT], Optimizer]


def adamp(params: ParamsT) -> Optimizer:
    return importlib.import_module("adamp").AdamP(params, lr=1e-3)


def geoopt(params: ParamsT) -> Optimizer:
    """Riemannian Adam on a product of spheres: filters are rows of views of the parameters."""
    package = importlib.import_module("geoopt")
    sphere = package.Sphere()
    points = []
    for p in params:
        assert isinstance(p, torch.Tensor)
        assert p.grad is not None
        point = p
        if p[0].numel() > 1:  # a sphere in one dimension is no manifold
            point = package.ManifoldParameter(p.detach().flatten(1), manifold=sphere)
            point.grad = p.grad.flatten(1)
        points.append(point)
    return package.optim.RiemannianAdam(points, lr=1e-3)


def optimi(params: ParamsT) -> Optimizer:
    return importlib.import_module("optimi").Adam(params, lr=1e-3)


def heavyball(params: ParamsT) -> Optimizer:
    optimizer = importlib.import_module("heavyball").AdamW(params, lr=1e-3, weight_decay=0.0)
    optimizer.consume_grad = False  # or the next step would find no gradients, and do nothing
    return optimizer


def adamp_again(params: ParamsT) -> Optimizer:
    return importlib.import_module("pytorch_optimizer").AdamP(params, lr=1e-3)


def apex(params: ParamsT) -> Optimizer:
    return importlib.import_module("apex.optimizers").FusedAdam(params, lr=1e-3)


PEERS: dict[str, Peer] = {
    ADAMP: Peer("adamp", "its authors' eager AdamP, which projects filters", adamp),
    GEOOPT: Peer("geoopt", "RiemannianAdam, eager; filters are points on unit spheres", geoopt),
    OPTIMI: Peer(
        "torch-optimi", "Adam as it chooses for the device: Triton, or a loop over tensors", optimi
    ),
    HEAVYBALL: Peer("heavyball", "AdamW, compiled for the model by torch.compile", heavyball),
    ADAMP_AGAIN: Peer("pytorch_optimizer", "AdamP, eager", adamp_again),
    APEX: Peer("apex", "NVIDIA's FusedAdam", apex),
}


def absent(name: str, device: str) -> str:
    """Why that peer cannot step here, or ''."""
    if name == APEX:  # PyPI has another package of that name
        if device == "cpu":
            return "its kernels are for NVIDIA GPUs only"
        try:
            importlib.import_module("apex.optimizers")
        except ImportError:
            return "NVIDIA's apex is not installed; see its own instructions"
        return ""
    return "" if version(name) else f"pip install {PEERS[name].package}"


def version(name: str) -> str | None:
    try:
        return metadata.version(PEERS[name].package)
    except metadata.PackageNotFoundError:
        return None
