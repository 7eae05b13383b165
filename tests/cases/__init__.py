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


def typical(name: str) -> dict[str, Any]:
    """The case in which every part of the optimizer's state is alive."""
    return CASES[name]["typical"]


def over(name: str, channel_dims: tuple[int, ...] | None) -> dict[str, Any]:
    """The same with these channel_dims, where the optimizer takes any."""
    dims = {"channel_dims": channel_dims} if "channel_dims" in DEFAULTS[name] else {}
    return {**typical(name), **dims}
