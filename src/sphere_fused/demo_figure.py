"""What the demo shows in the end: a table with its reading, and a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from sphere_fused.demo import Run

# torch's optimizers are dashed; an optimizer and its spherical relatives share a range of hues.
STYLES: dict[str, dict[str, Any]] = {
    "Adam": {"color": "#6ea3dc", "linestyle": (0, (4, 1.5))},
    "AdamS": {"color": "#1f9e89", "linestyle": "-"},
    "AdamSRT": {"color": "#1b3a93", "linestyle": "-"},
    "SGD": {"color": "#ee9336", "linestyle": (0, (4, 1.5))},
    "SGDMRT": {"color": "#c1272d", "linestyle": "-"},
}
LOOK: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": "#555555",
    "grid.color": "#ebebeb",
    "xtick.color": "#999999",
    "ytick.color": "#999999",
    "xtick.labelcolor": "#555555",
    "ytick.labelcolor": "#555555",
    "lines.linewidth": 2.0,
    "legend.frameon": False,
}


def print_table(
    rates: dict[str, float], runs: dict[str, list[Run]], times: dict[tuple[str, bool], float]
) -> None:
    print(
        "  lr             the best on validation images, see demo_grid.json\n"
        "  test accuracy  mean ± standard deviation over seeds\n"
        "  train loss     mean of the last epoch\n"
        "  plain, fused   median time of step(); plain is torch's default or our reference\n"
    )
    layout = "{:<10}{:>6}{:>17}{:>13}{:>14}{:>14}"
    print(layout.format("optimizer", "lr", "test accuracy", "train loss", "plain ms", "fused ms"))
    for name, of_name in runs.items():
        finals = [100 * run.accuracy[-1] for run in of_name]
        spread = f" ± {statistics.stdev(finals):.2f}" if len(finals) > 1 else ""
        score = f"{statistics.fmean(finals):.2f}{spread} %"
        loss = f"{statistics.fmean(run.loss[-1] for run in of_name):.4f}"
        taken = [
            f"{times[name, fused]:.3f}" if (name, fused) in times else "none"
            for fused in (False, True)
        ]
        print(layout.format(name, f"{rates[name]:g}", score, loss, *taken))
    print()


def print_reading(
    runs: dict[str, list[Run]], times: dict[tuple[str, bool], float], tests: int
) -> None:
    """Say what the table shows, whichever way it came out."""
    finals = {name: [100 * r.accuracy[-1] for r in of_name] for name, of_name in runs.items()}
    for ours, theirs in (("AdamSRT", "Adam"), ("SGDMRT", "SGD")):
        gains = [a - b for a, b in zip(finals[ours], finals[theirs], strict=True)]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        gain = statistics.fmean(gains)
        agree = "agree" if min(gains) > 0 or max(gains) < 0 else "do not agree"
        print(
            f"{ours} minus {theirs}: {gain:+.2f} points of test accuracy; by seed {each}.", end=""
        )
        print(f" The seeds {agree}." if len(gains) > 1 else "")
    share = statistics.fmean(value for scores in finals.values() for value in scores) / 100
    error = 100 * math.sqrt(share * (1 - share) / tests)
    print(f"Another {tests:,} test images would move each accuracy by about {error:.1f} points.")
    if ("AdamSRT", True) in times and ("Adam", True) in times:
        fused = times["AdamSRT", True]
        print(
            f"AdamSRT's fused step takes {fused / times['Adam', True]:.2f} of the time of torch's "
            f"fused Adam and {fused / times['AdamSRT', False]:.2f} of that of our reference."
        )
    else:
        print("AdamSRT has no fused step here; `python -m sphere_fused info` says why.")


def curve(ax: Axes, name: str, times: np.ndarray, values: np.ndarray, label: str = "") -> None:
    """The mean over seeds, and a band from the lowest to the highest; `values` (seeds, times)."""
    ax.plot(times, values.mean(axis=0), label=label, **STYLES[name])
    low, high = values.min(axis=0), values.max(axis=0)
    ax.fill_between(times, low, high, color=STYLES[name]["color"], alpha=0.12, linewidth=0)


def headline(ax: Axes, title: str, explanation: str) -> None:
    ax.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=22)
    ax.text(0, 1.025, explanation, transform=ax.transAxes, fontsize=9.5, color="#666666")


def ticks(ax: Axes, places: Sequence[float], low: float, high: float) -> None:
    """Write those `places` that lie between `low` and `high` as plain numbers, eight at most."""
    shown = [place for place in places if low <= place <= high]
    shown = shown[:: 1 + (len(shown) - 1) // 8]
    ax.set_yticks(shown, [f"{place:g}" for place in shown])
    ax.set_yticks([], minor=True)
    ax.set_ylim(low, high)


def label_ends(ax: Axes, ends: dict[str, float]) -> None:
    """Write the last value of each curve to its right, moved apart where they would collide."""
    names = sorted(ends, key=lambda name: ends[name])
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform((0, ends[name]))[1]) for name in names]
    heights = wanted[:1]
    for height in wanted[1:]:
        heights.append(max(height, heights[-1] + 0.054))
    lifted = float(np.mean(heights) - np.mean(wanted))
    for name, height in zip(names, heights, strict=True):
        ax.text(
            1.015,
            height - lifted,
            f"{ends[name]:.1f}  {name}",
            transform=ax.transAxes,
            color=STYLES[name]["color"],
            fontsize=10.5,
            va="center",
        )


def draw(path: Path, runs: dict[str, list[Run]], rates: dict[str, float]) -> None:
    """Save curves of loss, accuracy, radius and effective learning rate at `path`."""
    first = next(iter(runs.values()))
    epochs, seeds = len(first[0].loss), len(first)
    ends, times = np.arange(1, epochs + 1), np.array(first[0].times)
    losses, scores, radii, effective = (
        {name: np.array([getattr(run, kind) for run in of_name]) for name, of_name in runs.items()}
        for kind in ("loss", "accuracy", "radius", "rate")
    )
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(12.5, 9.4))
        axes = figure.subplots(2, 2)
        figure.subplots_adjust(0.05, 0.06, 0.9, 0.82, wspace=0.16, hspace=0.38)
        (loss, score), (radius, rate) = axes
        # Equal distances are equal ratios of the error, or the end would be one flat line.
        score.set_yscale(
            "function",
            functions=(lambda y: -np.log10(np.maximum(100.2 - y, 0.1)), lambda y: 100.2 - 10.0**-y),
        )
        for ax in (loss, radius, rate):
            ax.set_yscale("log")
        for name in runs:
            curve(loss, name, ends, losses[name], f"{name}, lr {rates[name]:g}")
            curve(score, name, ends, 100 * scores[name])
            curve(radius, name, times, radii[name])
            curve(rate, name, times, effective[name])
        for ax in axes.flat:
            ax.set(xlim=(0, epochs), xlabel="epoch")

        headline(loss, "Training loss", "mean over each epoch, log scale")
        ticks(loss, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2], *loss.get_ylim())

        final = {name: 100 * float(values[:, -1].mean()) for name, values in scores.items()}
        best = 100 * max(float(values.max()) for values in scores.values())
        headline(score, "Test accuracy, %", "after each epoch, scale stretched towards 100")
        percents = [10, 30, 50, 70, 80, 90, 93, 95, 96, 97, 98, 99]
        ticks(score, percents, min(50, *final.values()), best + 0.2 * (100 - best))
        label_ends(score, final)

        headline(radius, "Filter radius r = |w|", "median over all filters, log scale")
        sizes = [0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 8, 10, 20]
        ticks(radius, sizes, *radius.get_ylim())

        text = "on the unit sphere: lr/r² for SGD, lr/(r ν) for the Adams; median, log scale"
        headline(rate, "Effective learning rate", text)
        # The cosine schedule ends at 0; the last steps would take half of the panel.
        low = min(float(values[:, int(0.92 * len(times))].min()) for values in effective.values())
        ticks(rate, [10.0**power for power in range(-6, 4)], low, rate.get_ylim()[1])

        title = "Five optimizers, one small network with BatchNorm, handwritten digits"
        figure.text(0.05, 0.955, title, fontsize=17, fontweight="bold")
        text = (
            "Each at its own best learning rate, which decays by a cosine. "
            f"Lines: mean over seeds ({seeds}). Bands: lowest to highest."
        )
        figure.text(0.05, 0.928, text, fontsize=11.5, color="#444444")
        figure.legend(
            *loss.get_legend_handles_labels(),
            loc="upper left",
            bbox_to_anchor=(0.044, 0.922),
            ncols=len(runs),
            borderaxespad=0.2,
            columnspacing=2.2,
            fontsize=11.5,
        )
        figure.savefig(path, dpi=150)
