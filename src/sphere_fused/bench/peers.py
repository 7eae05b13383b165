"""Optimizers of other packages that do the same as ours, or what is closest to AdamSRT.

A package is imported when its optimizer is made, and need not be installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import torch
from torch.optim.optimizer import Optimizer, ParamsT

from sphere_fused.bench.names import (
    ADAMP,
    ADAMP_AGAIN,
    APEX,
    GEOOPT,
    GEOOPT_SGD,
    HEAVYBALL,
    HYPERBALL,
    LAMB,
    OPTIMI,
    SGDP,
)


class Peer(NamedTuple):
    """`package` is what pip calls it."""

    package: str
    about: str
    make: Callable[[ParamsT], Optimizer]


def adamp(params: ParamsT) -> Optimizer:
    return importlib.import_module("adamp").AdamP(params, lr=1e-3)


def sgdp(params: ParamsT) -> Optimizer:
    return importlib.import_module("adamp").SGDP(params, lr=1e-3, momentum=0.9, weight_decay=1e-4)


def on_spheres(params: ParamsT) -> list[torch.Tensor]:
    """Filters as rows of views of the parameters, which geoopt takes for points on a sphere."""
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
    return points


def geoopt(params: ParamsT) -> Optimizer:
    package = importlib.import_module("geoopt")
    return package.optim.RiemannianAdam(on_spheres(params), lr=1e-3)


def geoopt_sgd(params: ParamsT) -> Optimizer:
    package = importlib.import_module("geoopt")
    return package.optim.RiemannianSGD(on_spheres(params), lr=1e-3, momentum=0.9)


def optimi(params: ParamsT) -> Optimizer:
    return importlib.import_module("optimi").Adam(params, lr=1e-3)


def heavyball(params: ParamsT) -> Optimizer:
    optimizer = importlib.import_module("heavyball").AdamW(params, lr=1e-3, weight_decay=0.0)
    optimizer.consume_grad = False  # or the next step would find no gradients, and do nothing
    return optimizer


def hyperball(params: ParamsT) -> Optimizer:
    optimizer = importlib.import_module("heavyball").HyperBallAdamW(params, lr=1e-3)
    optimizer.consume_grad = False  # likewise
    return optimizer


def lamb(params: ParamsT) -> Optimizer:
    package = importlib.import_module("pytorch_optimizer")
    return package.Lamb(params, lr=1e-3, weight_decay=1e-2, weight_decouple=False)


def adamp_again(params: ParamsT) -> Optimizer:
    return importlib.import_module("pytorch_optimizer").AdamP(params, lr=1e-3)


def apex(params: ParamsT) -> Optimizer:
    return importlib.import_module("apex.optimizers").FusedAdam(params, lr=1e-3)


PEERS: dict[str, Peer] = {
    ADAMP: Peer("adamp", "its authors' eager AdamP, which projects filters", adamp),
    GEOOPT: Peer("geoopt", "RiemannianAdam, eager; filters are points on unit spheres", geoopt),
    SGDP: Peer("adamp", "its authors' eager SGDP", sgdp),
    GEOOPT_SGD: Peer("geoopt", "RiemannianSGD, likewise", geoopt_sgd),
    LAMB: Peer("pytorch_optimizer", "LAMB in torch's foreach operators", lamb),
    HYPERBALL: Peer(
        "heavyball", "HyperBallAdamW, without a first moment, compiled by torch.compile", hyperball
    ),
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
