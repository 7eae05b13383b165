"""What every optimizer is tested with: one file per optimizer, found by being here.

Each has OPTIMIZER, the public name, and CASES, keyword arguments by a name for the test report.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from oracles import DEFAULTS

_modules = [importlib.import_module(f"cases.{m.name}") for m in pkgutil.iter_modules(__path__)]
CASES: dict[str, dict[str, dict[str, Any]]] = {m.OPTIMIZER: m.CASES for m in _modules}
OPTIMIZERS = list(CASES)
# (optimizer, name of the case, keyword arguments)
ALL = [(name, case, hyper) for name, cases in CASES.items() for case, hyper in cases.items()]
IDS = [f"{name}-{case}" for name, case, _ in ALL]
# One for each direction of a rule and each kind of state, for what is no matter of the formula.
REPRESENTATIVES = (
    "AdamSRT",  # direction "moment", a second moment per segment
    "AdamG",  # "previous", weights that are normalized at first
    "AdamP",  # "adam", a second moment per element; the whole tensor is surveyed before the step
    "RotationalAdamW",  # "adam" with every kind of state there is
    "RotationalLion",  # "sign"
    "SGDP",  # "nesterov"; surveyed; counts no steps
)
# Their second moment is one number per segment.
PER_SEGMENT = ("AdamS", "AdamST", "AdamSRT", "AdamG", "RiemannianAdam")
# Every step brings their weights back to a norm, which rounds them, whatever the gradient.
FIXED_RADIUS = (
    *("AdamG", "AdamH", "NormAdamW", "RiemannianAdam", "RiemannianSGD"),
    *("RotationalAdamW", "RotationalSGDM", "RotationalLion"),
)


def typical(name: str) -> dict[str, Any]:
    """The case in which every part of the optimizer's state is alive."""
    return CASES[name]["typical"]


def least(name: str) -> dict[str, Any]:
    """What an optimizer cannot be made without."""
    return CASES[name]["defaults"]


def known(name: str, **hyper: Any) -> dict[str, Any]:
    """Those of the arguments that the optimizer takes."""
    return {key: value for key, value in hyper.items() if key in DEFAULTS[name]}


def over(name: str, channel_dims: tuple[int, ...] | None) -> dict[str, Any]:
    """The typical case with these channel_dims, where the optimizer takes any."""
    return {**typical(name), **known(name, channel_dims=channel_dims)}


def moment_of(name: str) -> str:
    """The key of the first moment in the state."""
    return "exp_avg" if "betas" in DEFAULTS[name] else "momentum_buffer"


def counts_steps(name: str) -> bool:
    return name not in ("SGDMRT", "SGDP")


def of_length(name: str, dim: int) -> dict[str, Any]:
    """The typical case for segments of `dim` elements. Two of them, of mean 0, cannot turn: what is
    left of a direction is rounding."""
    return {**typical(name), **(known(name, zero_mean=False) if dim == 2 else {})}
