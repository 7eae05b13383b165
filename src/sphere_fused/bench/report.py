"""`python -m sphere_fused bench report`: tables and a figure of what has been measured.

Takes what `python -m sphere_fused bench --json FILE` and what `make gpu` have written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphere_fused.bench.names import COPY, OURS, TRITON
from sphere_fused.bench.timing import work_of

ABOUT = ("device", "capability", "driver", "torch", "triton", "python", "nvcc", "commit", "date")
DRY_RUN = "A dry run, of tiny shapes on a CPU: its numbers mean nothing."
# Between which lines of a README: tables of what was measured, and the one of all optimizers.
MEASURED, OPTIMIZERS = "measured", "optimizers"
MET = {True: "yes", False: "NO", None: ""}
# Of each column: its title, where it is in a row, and how it is written.
COLUMNS = (
    ("device ms", "device_ms", ".4f"),
    ("wall ms", "wall_ms", ".4f"),
    ("host ms", "host_ms", ".4f"),
    ("GB/s", "GB_per_s", ".1f"),
    ("of copy", "share_of_copy", ".1%"),
    ("of stream", "share_of_stream", ".1%"),
    ("ratio", "ratio_to_base", ".3f"),
    ("launches", "launches", "d"),
    ("operators", "operators", "d"),
    ("state B", "state_bytes_per_weight", ".2f"),
    ("temp. B", "temporary_bytes_per_weight", ".2f"),
    ("rounds", "rounds", "d"),
)
Sections = dict[str, dict[str, Any]]  # by section, and there by case


def sections_of(result: dict[str, Any]) -> Sections:
    """Of one run, or of those that `make gpu` has put into one file."""
    runs = [result[phase] for phase in ("benchmark", "compiled") if phase in result] or [result]
    return {section: found for run in runs for section, found in run.get("cases", {}).items()}


def first_line(error: str) -> str:
    return error.split("\n")[0]


def why_not(row: dict[str, Any]) -> str:
    """Why that contender was not timed, or ''."""
    return first_line(row.get("error") or row.get("absent") or "")


def written(row: dict[str, Any], key: str, how: str) -> str:
    value = row.get(key)
    if isinstance(value, dict):
        value = value["median"]
    return "" if value is None else f"{value:{how}}"


def blocks(section: str, found: dict[str, Any]) -> list[str]:
    """A block per case, a line per contender; times are medians, bytes are those per weight."""
    lines = []
    for case, told in found.items():
        small = " (fits in the cache)" if told.get("fits_in_cache") else ""
        lines.append(f"\n{case}, {section}{small}")
        if "error" in told:
            lines.append(f"  {first_line(told['error'])}")
            continue
        rows = told["rows"]
        columns = [column for column in COLUMNS if any(column[1] in row for row in rows.values())]
        lines.append(f"  {'':<28}" + "".join(f"{title:>11}" for title, _, _ in columns))
        for name, row in rows.items():
            cells = "".join(f"{written(row, key, how):>11}" for _, key, how in columns)
            lines.append(f"  {name:<28}{why_not(row) or cells}".rstrip())
    return lines


def lines_of_rows(section: str, found: dict[str, Any]) -> list[str]:
    """A line per case: AdamSRT beside the copy, and in Triton."""
    heads = f"{'ms':>9}{'copy ms':>9}{'GB/s':>7}{'of copy':>8}{'Triton ms':>11}{'of copy':>8}"
    lines = [f"\n{section:<24}{heads}"]
    for case, told in found.items():
        rows = told.get("rows", {})
        reasons = [why_not(one) for one in (told, rows.get(OURS, {}), rows.get(COPY, {}))]
        if any(reasons):
            lines.append(f"  {case:<22}{next(filter(None, reasons))}")
            continue
        ours, copy = rows[OURS], rows[COPY]
        of_triton = rows.get(TRITON, {"absent": "not timed"})
        triton = f"   {why_not(of_triton)}"
        if not why_not(of_triton):
            triton = f"{work_of(of_triton):>11.4f}{of_triton['share_of_copy']:>8.1%}"
        lines.append(
            f"  {case:<22}{work_of(ours):>9.4f}{work_of(copy):>9.4f}{ours['GB_per_s']:>7.0f}"
            f"{ours['share_of_copy']:>8.1%}{triton}"
        )
    return lines


def phases(result: dict[str, Any]) -> Iterator[str]:
    yield f"\n{'phase':<12}{'result':<11}{'seconds':>7}  "
    for name, phase in result["phases"].items():
        note = phase.get("note", "")
        yield f"{name:<12}{phase['status']:<11}{phase['seconds']:>7.1f}  {note}".rstrip()


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
    return f"{row['value']:.1%}" if "rate" in row["target"] else f"{row['value']:.3g}"


def targets(result: dict[str, Any]) -> list[str]:
    lines = ["", f"{'case':<36}{'target':<54}{'measured':>13}  met"]
    for row in result.get("targets", []):
        line = f"{row['case']:<36}{row['target']:<54}{value_of(row):>13}  {MET[row['met']]}"
        lines.append(line.rstrip())
    return lines


def about(result: dict[str, Any]) -> str:
    told = result.get("environment") or result["about"]
    known = [key for key in ABOUT if told.get(key) is not None]
    return ", ".join(str(told[k]) if k in ("device", "date") else f"{k} {told[k]}" for k in known)


def text(result: dict[str, Any]) -> str:
    lines = []
    for section, found in sections_of(result).items():
        of_rows = section.startswith("rows")
        lines += (lines_of_rows if of_rows else blocks)(section, found)
    lines += profile(result["profile"]) if result.get("profile") else []
    lines += [*targets(result), "", about(result)]
    lines += phases(result) if "phases" in result else []
    if result.get("dry_run"):
        lines += ["", DRY_RUN]
    return "\n".join(lines)


def read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        result = {}
    if not isinstance(result, dict) or not isinstance(
        result.get("cases", result.get("phases")), dict
    ):
        raise SystemExit(f"{path} is no result of `bench --json` or `make gpu`")
    return result


def put(path: Path, parts: dict[str, str]) -> None:
    """Each between the lines that are called so."""
    if not path.is_file():
        raise SystemExit(f"there is no file {path}")
    written = path.read_text()
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, found, rest = written.partition(begin)
        _, found_too, after = rest.partition(end)
        if not (found and found_too):
            raise SystemExit(f"{path} has no lines {begin.strip()} and {end.strip()}")
        written = f"{before}{begin}{part}\n{end}{after}"
    path.write_text(written)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sphere_fused bench report", description=__doc__.split("\n")[0]
    )
    parser.add_argument("json", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="README",
        help=f"put them between its lines <!-- {MEASURED} --> and <!-- /{MEASURED} -->, and the "
        f"table of all optimizers, of the first FILE, between those called {OPTIMIZERS}",
    )
    parser.add_argument("--figure", type=Path, metavar="PATH", help="also draw a figure")
    arguments = parser.parse_args(argv)
    results = [read(path) for path in arguments.json]
    if arguments.markdown or arguments.into:
        from sphere_fused.bench.markdown import markdown
        from sphere_fused.bench.overview import optimizers

        tables = markdown(results)
        if arguments.into:
            put(arguments.into, {MEASURED: tables, OPTIMIZERS: optimizers(results[0])})
        else:
            print(tables)
    else:
        print("\n".join(map(text, results)))
    if arguments.figure:
        try:
            from sphere_fused.bench.figure import draw
        except ModuleNotFoundError as error:
            print(f"no figure: {error}: pip install 'sphere_fused[bench]'", file=sys.stderr)
            return 1
        draw(arguments.figure, results)
    return 0
