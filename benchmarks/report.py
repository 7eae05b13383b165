"""Tables of what `make gpu` has written.

python benchmarks/report.py [--markdown] benchmarks/results/X.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from names import COPY, OURS, TRITON

ABOUT = ("device", "capability", "driver", "torch", "triton", "python", "nvcc", "commit")
DRY_RUN = "A dry run, of tiny shapes on a CPU: its numbers mean nothing."
MET = {True: "yes", False: "NO", None: ""}


def phases(result: dict[str, Any]) -> list[str]:
    lines = [f"{'phase':<12}{'result':<11}{'seconds':>7}  "]
    for name, phase in result["phases"].items():
        note = phase.get("note", "")
        lines.append(f"{name:<12}{phase['status']:<11}{phase['seconds']:>7.1f}  {note}".rstrip())
    return lines


def first_line(error: str) -> str:
    return error.split("\n")[0]


def medians(row: dict[str, Any]) -> list[float]:
    return [row[f"{of}_ms"]["median"] for of in ("device", "wall", "host")]


def blocks(section: str, found: dict[str, Any]) -> list[str]:
    """A block per case, a line per contender; times are medians in milliseconds."""
    lines = []
    for case, rows in found.items():
        small = " (fits in the L2 cache)" if rows.get("fits_in_L2") else ""
        lines.append(f"\n{case}, {section}{small}")
        if "error" in rows:
            lines.append(f"  {first_line(rows['error'])}")
            continue
        lines.append(
            f"  {'':<28}{'device ms':>10}{'wall ms':>9}{'host ms':>9}{'GB/s':>7}"
            f"{'of copy':>8}{'ratio':>7}{'launches':>9}"
        )
        for name, row in rows.items():
            if name == "fits_in_L2":
                continue
            if why := row.get("error") or row.get("absent"):
                lines.append(f"  {name:<28}{first_line(why)}")
                continue
            device, wall, host = medians(row)
            share = f"{row['share_of_copy']:.1%}" if "share_of_copy" in row else ""
            ratio = f"{row['ratio_to_base']:.2f}" if "ratio_to_base" in row else ""
            lines.append(
                f"  {name:<28}{device:>10.4f}{wall:>9.3f}{host:>9.3f}{row['GB_per_s']:>7.0f}"
                f"{share:>8}{ratio:>7}{row.get('launches', ''):>9}".rstrip()
            )
    return lines


def lines_of_rows(section: str, found: dict[str, Any]) -> list[str]:
    """A line per case: AdamSRT beside the copy, and in Triton."""
    heads = f"{'ms':>9}{'copy ms':>9}{'GB/s':>7}{'of copy':>8}{'Triton ms':>11}{'of copy':>8}"
    lines = [f"\n{section:<24}{heads}"]
    for case, rows in found.items():
        told = [rows, *(rows.get(name, {}) for name in (OURS, COPY))]
        errors = [row["error"] for row in told if "error" in row]
        if errors:
            lines.append(f"  {case:<22}{first_line(errors[0])}")
            continue
        ours, copy = (medians(rows[name])[0] for name in (OURS, COPY))
        of_ours = rows[OURS]
        of_triton = rows.get(TRITON, {"absent": "not timed"})
        if why := of_triton.get("error") or of_triton.get("absent"):
            triton = f"   {first_line(why)}"
        else:
            triton = f"{medians(of_triton)[0]:>11.4f}{of_triton['share_of_copy']:>8.1%}"
        lines.append(
            f"  {case:<22}{ours:>9.4f}{copy:>9.4f}{of_ours['GB_per_s']:>7.0f}"
            f"{of_ours['share_of_copy']:>8.1%}{triton}"
        )
    return lines


def profile(found: list[dict[str, Any]]) -> list[str]:
    """A line per kernel that the profiler has seen; per element of the step's tensors."""
    heads = ("us", "GB/s", "B/elem", "of peak", "warps", "regs", "inst/elem", "L2 hits")
    lines = ["", f"{'profile':<42}" + "".join(f"{head:>10}" for head in heads)]
    for row in found:
        cells = [row[k] for k in ("us", "GB_per_s", "bytes_per_element", "percent_of_peak_dram")]
        cells += [row[k] for k in ("percent_of_warps", "registers", "instructions_per_element")]
        cells.append(row["percent_of_L2_hits"])
        told = "".join(f"{'' if cell is None else f'{cell:.4g}':>10}" for cell in cells)
        lines.append(f"{row['case']:<18}{row['kernel']:<24}{told}".rstrip())
    return lines


def value_of(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "not measured"
    return f"{row['value']:.1%}" if "copy rate" in row["target"] else f"{row['value']:.3g}"


def targets(result: dict[str, Any]) -> list[str]:
    lines = ["", f"{'case':<36}{'target':<54}{'measured':>13}  met"]
    for row in result.get("targets", []):
        line = f"{row['case']:<36}{row['target']:<54}{value_of(row):>13}  {MET[row['met']]}"
        lines.append(line.rstrip())
    return lines


def about(result: dict[str, Any]) -> str:
    environment = result["environment"]
    return ", ".join(f"{key} {environment.get(key)}" for key in ABOUT)


def report(result: dict[str, Any]) -> str:
    lines = []
    for key in ("benchmark", "compiled"):
        for section, found in result.get(key, {}).items():
            of_rows = section.startswith("rows")
            lines += (lines_of_rows if of_rows else blocks)(section, found)
    lines += profile(result["profile"]) if result.get("profile") else []
    lines += [*targets(result), "", about(result), "", *phases(result)]
    if result.get("dry_run"):
        lines += ["", DRY_RUN]
    return "\n".join(lines)


def markdown(result: dict[str, Any]) -> str:
    """For the README: what was asked, and milliseconds of every contender."""
    lines = [DRY_RUN, ""] if result.get("dry_run") else []
    lines += [about(result), "", "| case | target | measured | met |", "|---|---|---|---|"]
    for row in result.get("targets", []):
        met = MET[row["met"]].lower()
        lines.append(f"| {row['case']} | {row['target']} | {value_of(row)} | {met} |")
    for key in ("benchmark", "compiled"):
        for section, found in result.get(key, {}).items():
            names = list(dict.fromkeys(n for rows in found.values() for n in rows))
            names = [n for n in names if n not in ("fits_in_L2", "error")]
            time = "wall" if section.startswith("small") else "device"
            lines += ["", f"| {section}: {time} ms | {' | '.join(names)} |"]
            lines.append("|---" * (len(names) + 1) + "|")
            for case, rows in found.items():
                told = [rows.get(name, {}).get(f"{time}_ms", {}).get("median") for name in names]
                cells = ["" if t is None else f"{t:.4g}" for t in told]
                lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="tables for the README")
    arguments = parser.parse_args()
    result = json.loads(arguments.json.read_text()) if arguments.json.is_file() else {}
    if "phases" not in result:
        raise SystemExit(f"{arguments.json} is no result of `make gpu`")
    print(markdown(result) if arguments.markdown else report(result))


if __name__ == "__main__":
    main()
