"""The figure of the README: large models beside what the memory can do, small ones beside Adam."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sphere_fused.bench.markdown import measured, present
from sphere_fused.bench.names import (
    ADAMP,
    BASE,
    COMPILED,
    COPY,
    FOREACH,
    OURS,
    REFERENCE,
    STREAM,
    TRITON,
)
from sphere_fused.bench.report import why_not
from sphere_fused.bench.timing import work_of

# Of Okabe and Ito, which the colour-blind can tell apart.
COLOURS = {
    OURS: "#0072B2",
    TRITON: "#56B4E9",
    BASE: "#E69F00",
    FOREACH: "#F0E442",
    COMPILED: "#009E73",
    REFERENCE: "#999999",
    ADAMP: "#CC79A7",
}
LOOK: Any = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#ebebeb",
    "ytick.color": "#999999",
    "ytick.labelcolor": "#555555",
    "xtick.major.size": 0,
    "legend.frameon": False,
}
LABEL = 13  # characters of a line below the bars
Row = dict[str, Any]
Value = Callable[[Row, str], float]


def limit_of(rows: Row) -> str:
    """What shows the memory's speed: the stream, which is for CPUs, or the copy; '' if neither."""
    return next((name for name in (STREAM, COPY) if name in rows and not why_not(rows[name])), "")


def percent_of_limit(rows: Row, name: str) -> float:
    return 100 * work_of(rows[limit_of(rows)]) / work_of(rows[name])


def speed_beside_base(rows: Row, name: str) -> float:
    """By wall time, which the host decides."""
    return rows[BASE]["wall_ms"]["median"] / rows[name]["wall_ms"]["median"]


def bars(ax: Axes, cases: list[tuple[str, Row]], value: Value, how: Callable[[float], str]) -> None:
    """A group per case, of as many bars as contenders have been timed."""
    timed = [
        [name for name in COLOURS if name in rows and not why_not(rows[name])] for _, rows in cases
    ]
    width = 0.84 / max(map(len, timed), default=1)
    for i, (names, (_, rows)) in enumerate(zip(timed, cases, strict=True)):
        for j, name in enumerate(names):
            x, y = i + (j - (len(names) - 1) / 2) * width, value(rows, name)
            ax.bar(x, y, 0.92 * width, color=COLOURS[name])
            label = ax.annotate(how(y), (x, y), (0, 2), textcoords="offset points", ha="center")
            label.set(fontsize=7.5, color="#444444")
            label.set_fontweight("bold" if name == OURS else "normal")
    ax.set_xticks(
        range(len(cases)), [textwrap.fill(title, LABEL) for title, _ in cases], fontsize=9
    )
    ax.set_xlim(-0.6, len(cases) - 0.4)


def headline(ax: Axes, title: str, explanation: str) -> None:
    ax.set_title(title, loc="left", fontsize=12.5, fontweight="bold", pad=22)
    ax.text(0, 1.03, explanation, transform=ax.transAxes, fontsize=9.5, color="#666666")


def large_and_small(result: Row) -> tuple[list[tuple[str, Row]], list[tuple[str, Row]]]:
    large, small = [], []
    for title, told in measured(result):
        rows = told["rows"]
        timed = [name for name in (OURS, BASE) if name in rows and not why_not(rows[name])]
        if told.get("fits_in_cache") and len(timed) == 2:
            small.append((title.removesuffix(" ¹"), rows))
        elif not told.get("fits_in_cache") and OURS in timed and limit_of(rows):
            large.append((title, rows))
    return large, small


def draw_one(large: Axes, small: Axes, result: Row) -> None:
    of_large, of_small = large_and_small(result)
    bars(large, of_large, percent_of_limit, lambda y: f"{y:.0f}")
    large.axhline(100, color="#222222", linewidth=1.4, linestyle=(0, (5, 2)))
    name = "stream" if any(limit_of(rows) == STREAM for _, rows in of_large) else "copy"
    text = f"weights per second, in % of a {name} that moves AdamSRT's bytes (dashed: the limit)"
    device = (result.get("environment") or result["about"])["device"]
    headline(large, f"Models larger than the cache. {device}", text)
    bars(small, of_small, speed_beside_base, lambda y: f"{y:.2g}")
    small.axhline(1, color="#222222", linewidth=1.0)
    headline(small, "Small models", "times as fast as torch's fused Adam, whole step()")


def draw(path: Path, results: list[Row]) -> None:
    """Save at `path` a row of two panels for every result."""
    with matplotlib.rc_context(LOOK):
        height = 4.6 * len(results)
        figure = Figure(figsize=(13, height))
        panels = figure.subplots(len(results), 2, squeeze=False, width_ratios=(2.1, 1))
        above = 0.95 / height  # for the legend and a headline
        figure.subplots_adjust(0.035, 0.5 / height, 0.995, 1 - above, 0.08, 0.4)
        for (large, small), result in zip(panels, results, strict=True):
            draw_one(large, small, result)
        timed = {name for result in results for name in present(measured(result))}
        shown = [name for name in COLOURS if name in timed]
        handles = [matplotlib.patches.Patch(color=COLOURS[name], label=name) for name in shown]
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.03, 1),
            ncols=len(shown),
            columnspacing=1.4,
            handlelength=1.2,
        )
        figure.savefig(path, dpi=100)
