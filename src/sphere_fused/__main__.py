"""`python -m sphere_fused info | demo | bench | selftest`."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "info": "versions, what was built, which backends run here and why the others do not",
    "demo": "train a small network on handwritten digits; print a table, save a figure",
    "bench": "time steps of ours, torch's and other packages' optimizers; tables and a figure",
    "selftest": "every optimizer on every backend of this machine against float64",
}


def main(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command not in COMMANDS:
        print("usage: python -m sphere_fused COMMAND\n", file=sys.stderr)
        for name, about in COMMANDS.items():
            print(f"  {name:<9} {about}", file=sys.stderr)
        return 0 if command in ("-h", "--help") else 2
    return importlib.import_module(f"sphere_fused.{command}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
