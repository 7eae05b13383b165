"""Tables of what `make gpu` has written: python benchmarks/report.py benchmarks/results/X.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def phases(result: dict[str, Any]) -> list[str]:
    lines = [f"{'phase':<12}{'result':<11}{'seconds':>7}  "]
    for name, phase in result["phases"].items():
        note = phase.get("note", "")
        lines.append(f"{name:<12}{phase['status']:<11}{phase['seconds']:>7.1f}  {note}".rstrip())
    return lines


def benchmark(title: str, models: dict[str, Any]) -> list[str]:
    """One block per model; times are medians in milliseconds."""
    lines = []
    for model, rows in models.items():
        small = " (fits in the L2 cache)" if rows.get("fits_in_L2") else ""
        lines.append(f"\n{model}, {title}{small}")
        if "error" in rows:
            lines.append(f"  {rows['error']}".split("\n")[0])
            continue
        lines.append(
            f"  {'':<28}{'device ms':>10}{'wall ms':>9}{'host ms':>9}{'GB/s':>7}"
            f"{'of copy':>8}{'ratio':>7}"
        )
        for name, row in rows.items():
            if name == "fits_in_L2":
                continue
            if "error" in row:
                lines.append(f"  {name:<28}{row['error']}".split("\n")[0])
                continue
            device, wall, host = (row[f"{of}_ms"]["median"] for of in ("device", "wall", "host"))
            share = f"{row['share_of_copy']:8.1%}" if "share_of_copy" in row else f"{'':8}"
            ratio = f"{row['ratio_to_base']:7.2f}" if "ratio_to_base" in row else ""
            lines.append(
                f"  {name:<28}{device:>10.4f}{wall:>9.3f}{host:>9.3f}{row['GB_per_s']:>7.0f}"
                f"{share}{ratio}"
            )
    return lines


def report(result: dict[str, Any]) -> str:
    lines = []
    for key in ("benchmark", "compiled"):
        for dtype, models in result.get(key, {}).items():
            lines += benchmark(dtype if key == "benchmark" else f"{dtype}, compiled", models)
    environment = result["environment"]
    about = ("device", "capability", "driver", "torch", "triton", "python", "nvcc", "commit")
    lines += ["", ", ".join(f"{key} {environment.get(key)}" for key in about)]
    return "\n".join([*lines, "", *phases(result)])


if __name__ == "__main__":
    print(report(json.loads(Path(sys.argv[1]).read_text())))
