"""Spherical and norm-aware optimizers for PyTorch that run at memory speed."""

from sphere_fused.convert import from_adam, from_paper
from sphere_fused.optim import SGDMRT, AdamG, AdamS, AdamSRT, AdamST

__version__ = "0.1.0"
__all__ = ["SGDMRT", "AdamG", "AdamS", "AdamSRT", "AdamST", "from_adam", "from_paper"]
