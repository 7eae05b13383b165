"""Results as Markdown, for the README."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sphere_fused.bench import overview
from sphere_fused.bench.names import BASE, COPY, OURS, PEERS, STREAM, is_ours
from sphere_fused.bench.report import DRY_RUN, MET, about, sections_of, value_of, why_not
from sphere_fused.bench.timing import work_of

Row = dict[str, Any]
MEMORY_OF = ("models, float32", "GPT-2 124M")


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Nothing if it would have no rows."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines)] if rows else []


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(row: Row) -> str:
    """Half of the range between the quartiles, in per cent of the median."""
    of = row.get("device_ms") or row["wall_ms"]
    return f"{50 * (of['q3'] - of['q1']) / of['median']:.0f}"


def titled(section: str, case: str, told: Row) -> str:
    dtype = section.split(", ")[-1]
    title = case if dtype == "float32" else f"{case}, {dtype}"
    return f"{title} ¹" if told.get("fits_in_cache") else title


def cell(row: Row | None) -> str:
    """Milliseconds, and the ratio to torch's fused Adam where that was timed."""
    if not row or why_not(row):
        return ""
    ratio = f" ({number(row['ratio_to_base'])})" if "ratio_to_base" in row else ""
    return f"{number(work_of(row))}{ratio}"


def measured(result: Row, without: tuple[str, ...] = ("rows", "family")) -> list[tuple[str, Row]]:
    """The title of every case that was measured, and what is told of it, but for some sections."""
    return [
        (titled(section, case, told), told)
        for section, found in sections_of(result).items()
        for case, told in found.items()
        if "rows" in told and not section.startswith(without)
    ]


def present(cases: list[tuple[str, Row]]) -> list[str]:
    """The contenders that were timed in some case."""
    names = [name for _, told in cases for name, row in told["rows"].items() if not why_not(row)]
    wanted = [*filter(is_ours, names), *names]
    return list(dict.fromkeys(name for name in wanted if name not in (COPY, STREAM)))


def times(result: Row) -> list[str]:
    cases = measured(result)
    names = [name for name in present(cases) if name not in PEERS]
    rows = [[title, *(cell(told["rows"].get(n)) for n in names)] for title, told in cases]
    rows = [row for row in rows if any(row[1:])]
    return table([f"ms per step (ratio to {BASE})", *names], rows)


def peers(result: Row) -> list[str]:
    cases = [(title, told) for title, told in measured(result) if {*PEERS} & {*told["rows"]}]
    names = [name for name in present(cases) if name in PEERS]
    rows = [[name, *(cell(told["rows"].get(name)) for _, told in cases)] for name in (OURS, *names)]
    heads = ["other packages: ms per step (ratio)", *(title for title, _ in cases)]
    return table(heads, rows if names else [])


def of_both(rows: Row, told: Callable[[Row], str]) -> str:
    """What is told of AdamSRT and of torch's fused Adam, where it was timed."""
    return " / ".join(told(rows[n]) for n in (OURS, BASE) if n in rows and not why_not(rows[n]))


def limits(result: Row) -> list[str]:
    """How near AdamSRT comes to what the memory can do, and what it costs the host."""
    rows = []
    for title, told in measured(result, without=("family",)):
        ours = told["rows"].get(OURS)
        if not ours or why_not(ours):
            continue
        shares = [ours.get(f"share_of_{limit}") for limit in (COPY, STREAM)]
        rows.append(
            [
                title,
                f"{ours['bytes'] / 1e6:,.1f}",
                number(ours["GB_per_s"]),
                *("" if share is None else f"{share:.0%}" for share in shares),
                of_both(told["rows"], lambda row: number(row["host_ms"]["median"])),
                of_both(told["rows"], lambda r: str(r.get("launches", r.get("operators", "")))),
                of_both(told["rows"], spread),
            ]
        )
    heads = ["AdamSRT (/ Adam, fused)", "MB per step", "GB/s", "of copy", "of stream"]
    return table([*heads, "host ms", "launches ²", "spread, % ³"], rows)


def memory(result: Row) -> list[str]:
    section, case = MEMORY_OF
    rows = sections_of(result).get(section, {}).get(case, {}).get("rows", {})
    told = [(n, row) for n, row in rows.items() if row.get("state_bytes_per_weight")]
    return table(
        [f"bytes per weight, {case}", "optimizer state", "temporaries during a step"],
        [
            [n, f"{row['state_bytes_per_weight']:.2f}", f"{row['temporary_bytes_per_weight']:.2f}"]
            for n, row in told
        ],
    )


def targets(result: Row) -> list[str]:
    met = MET | {False: "**no**"}
    rows = [
        [row["case"], row["target"], value_of(row), met[row["met"]]]
        for row in result.get("targets", [])
    ]
    return table(["case", "target", "measured", "met"], rows)


def contenders(result: Row) -> list[str]:
    """One line on each, and why some are absent."""
    absent: dict[str, str] = {}
    everything = measured(result, without=())
    for _, told in everything:
        absent |= {name: why_not(row) for name, row in told["rows"].items() if why_not(row)}
    runs = [result[phase] for phase in ("benchmark", "compiled") if phase in result] or [result]
    packages = runs[0].get("about", {}).get("packages", {})
    lines = []
    for name, what in runs[0].get("contenders", {}).items():
        known = packages.get(name.split(", ")[-1])
        lines.append(f"- {name}: {what}" + (f" ({known})" if known else ""))
        if name in absent and name not in present(everything):
            lines[-1] += f"; not timed: {absent[name]}"
    return ["", *lines]


NOTES = """
Medians of steps that were taken in turn. ¹ Parameters, gradients and moments fit in the cache.
² On a CPU: operators that Python calls. ³ Half of the range between the quartiles."""


def folded(summary: str, lines: list[str]) -> list[str]:
    return ["", "<details>", f"<summary>{summary}</summary>", *lines, "", "</details>"]


def of_one(result: Row) -> list[str]:
    lines = [f"Measured on: {about(result)}."]
    for part in (times, peers, overview.family, limits, memory):
        lines += part(result)
    asked = result.get("targets", [])
    met = sum(row["met"] is True for row in asked)
    lines += [NOTES, *folded(f"Targets: {met} of {len(asked)} met", targets(result))]
    lines += folded("Who was timed", contenders(result))
    return [*([DRY_RUN, ""] if result.get("dry_run") else []), *lines]


def side_by_side(results: list[Row]) -> list[str]:
    """AdamSRT on each device: its ratio to torch's fused Adam, and its share of the copy rate."""
    found: dict[str, dict[int, str]] = {}
    for i, result in enumerate(results):
        for title, told in measured(result):
            ours = told["rows"].get(OURS, {})
            share = f", {ours['share_of_copy']:.0%}" if "share_of_copy" in ours else ""
            if "ratio_to_base" in ours:
                found.setdefault(title, {})[i] = f"{number(ours['ratio_to_base'])}{share}"
    heads = [f"AdamSRT: ratio to {BASE}, share of the copy rate"]
    heads += [(r.get("environment") or r["about"])["device"] for r in results]
    rows = [[title, *(of.get(i, "") for i in range(len(results)))] for title, of in found.items()]
    return table(heads, rows)


def markdown(results: list[Row]) -> str:
    lines = side_by_side(results)[1:] if len(results) > 1 else []
    for result in results:
        lines += ([""] if lines else []) + of_one(result)
    return "\n".join(lines)
