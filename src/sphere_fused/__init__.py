"""Spherical and norm-aware optimizers for PyTorch that run at memory speed."""

from sphere_fused.convert import from_adam, from_paper
from sphere_fused.optim import (
    LAMB,
    LARS,
    SGDMRT,
    SGDP,
    AdamG,
    AdamH,
    AdamP,
    AdamS,
    AdamSRT,
    AdamST,
    NormAdamW,
    RiemannianAdam,
    RiemannianSGD,
    RotationalAdamW,
    RotationalLion,
    RotationalSGDM,
)
from sphere_fused.optim.hyperball import hyperball_

__version__ = "0.1.0"
__all__ = [
    "LAMB",
    "LARS",
    "SGDMRT",
    "SGDP",
    "AdamG",
    "AdamH",
    "AdamP",
    "AdamS",
    "AdamSRT",
    "AdamST",
    "NormAdamW",
    "RiemannianAdam",
    "RiemannianSGD",
    "RotationalAdamW",
    "RotationalLion",
    "RotationalSGDM",
    "from_adam",
    "from_paper",
    "hyperball_",
]
