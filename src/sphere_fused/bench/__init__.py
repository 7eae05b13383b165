"""`python -m sphere_fused bench`: what steps cost; `bench report`, `bench check`."""

from __future__ import annotations

import importlib

COMMANDS = ("report", "check")


def main(arguments: list[str]) -> int:
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    module = importlib.import_module(f"sphere_fused.bench.{command or 'run'}")
    return module.main(arguments[1:] if command else arguments)
