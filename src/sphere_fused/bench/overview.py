"""The README's table of all optimizers: what each does and suits, as told here and as measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sphere_fused.bench import cases
from sphere_fused.bench.family import MEMBERS, Member
from sphere_fused.bench.names import BASE_W, HYPERBALL, STREAM
from sphere_fused.bench.report import sections_of, why_not
from sphere_fused.bench.timing import work_of

Row = dict[str, Any]


class Told(NamedTuple):
    """u is Adam's direction, b the buffer of momentum SGD, R the norm of w at first."""

    step: str
    paper: str  # its authors, and its number at arXiv
    suits: str


ROBURIN, HEO = "Roburin et al. 2006.13382", "Heo et al. 2006.08217"
KOSSON, BECIGNEUL = "Kosson et al. 2305.17212", "Bécigneul & Ganea 1810.00760"
BATCH_NORM = "CNN with BatchNorm"
TOLD: dict[str, Told] = {
    "AdamS": Told("w −= lr √D m/(√S + ε), S averages ‖g‖²", ROBURIN, BATCH_NORM),
    "AdamST": Told("AdamS, m transported to the new point", ROBURIN, BATCH_NORM),
    "AdamSRT": Told("AdamST, S rescaled by ‖w‖²/‖w'‖²", ROBURIN, f"{BATCH_NORM}: the first to try"),
    "SGDMRT": Told("w −= lr b, b transported", ROBURIN, f"{BATCH_NORM} trained by SGD"),
    "AdamP": Told(
        "w −= lr u, u without its part along w where w ⊥ g",
        HEO,
        "networks that are normalized in parts",
    ),
    'AdamP(decision="filter")': Told("likewise, filter by filter", HEO, "the same, faster"),
    "SGDP": Told("AdamP with b for u", HEO, "the same, for SGD"),
    'SGDP(decision="filter")': Told("likewise, filter by filter", HEO, "the same, for SGD"),
    "AdamH": Told(
        "w = R x/‖x‖, x = w − lr R u/‖u‖, of whole tensors", "Wen et al. 2606.16899", "LLM"
    ),
    "NormAdamW": Told(
        "w = R x/‖x‖, x = (1 − lr wd) w − lr u", "Karras et al. 2312.02696", "diffusion; nGPT"
    ),
    "RotationalAdamW": Told(
        "w turns by √(2 lr wd (1−β₁)/(1+β₁)) on average", KOSSON, "ViT, LLM with norms"
    ),
    "RotationalSGDM": Told("w turns by √(2 lr wd/(1+β)), along b", KOSSON, BATCH_NORM),
    "RotationalLion": Told("likewise, along sign(β₁m + (1−β₁)g)", KOSSON, "ViT, LLM with norms"),
    "AdamG": Told("Adam along geodesics of unit spheres", "Cho & Lee 1709.09603", BATCH_NORM),
    "RiemannianAdam": Told(
        "w = x/‖x‖, x = w − lr m/(√S + ε), m and S of tangents", BECIGNEUL, "points on spheres"
    ),
    "RiemannianSGD": Told("w = x/‖x‖, x = w − lr b", BECIGNEUL, "points on spheres"),
    "LAMB": Told("w −= lr (‖w‖/‖d‖) d, d = u + wd w", "You et al. 1904.00962", "large batches"),
    "LARS": Told(
        "w −= lr b, b of 10⁻³ (‖w‖/‖g‖) g", "You et al. 1708.03888", f"large batches, {BATCH_NORM}"
    ),
}


def member_of(title: str) -> str:
    return title.replace('(decision="filter")', " by filter")


def times(result: Row, contender: str, model: str) -> Iterator[Row]:
    """What is told of it in the cases of that model."""
    for case, told in sections_of(result).get(cases.FAMILY_SECTION, {}).items():
        row = told.get("rows", {}).get(contender)
        if case.split(", ")[0] == model and row and not why_not(row):
            yield row


def ratio(result: Row, contender: str, model: str) -> str:
    found = [row["ratio_to_base"] for row in times(result, contender, model)]
    return f"{found[0]:.2f}" if found else ""


def moved(member: Member) -> str:
    """Bytes per weight and step in float32: of a tensor that stays on the chip, and of others."""
    least, most = (member.bytes_per_weight(4, 2, elements) for elements in (2, 2**40))
    return str(least) if least == most else f"{least} to {most}"


def lines_of(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def optimizers(result: Row) -> str:
    """A line for every optimizer."""
    rows = []
    for title, (step, paper, suits) in TOLD.items():
        name, member = member_of(title), MEMBERS[member_of(title)]
        authors, number = paper.rsplit(" ", 1)
        measured = " / ".join(filter(None, (ratio(result, name, model) for model in cases.FAMILY)))
        link = f"[{authors}](https://arxiv.org/abs/{number})"
        state = str(4 * member.moments)
        rows.append([f"`{title}`", step, link, suits, moved(member), state, measured])
    rows.append([f"torch's {BASE_W}", "w −= lr u", "", "", "28", "8", "1"])
    heads = ["optimizer", "step", "paper", "suits", "moves", "keeps", "takes"]
    return "\n".join(lines_of(heads, rows))


def family(result: Row) -> list[str]:
    """All optimizers beside torch's fused AdamW, the stream and what does the same eagerly."""
    rows = []
    for name in (*MEMBERS, HYPERBALL):
        cells = []
        for model in cases.FAMILY:
            found = list(times(result, name, model))
            if not found:
                cells += ["", "", ""]
                continue
            row, slower = found[0], ""
            if name in MEMBERS:
                eager = list(times(result, cases.eager(name), model))
                slower = f"{work_of(eager[0]) / work_of(row):.3g}" if eager else ""
            share = row.get(f"share_of_{STREAM}", row.get("share_of_copy"))
            cells.append(f"{work_of(row):.3g} ({row['ratio_to_base']:.2f})")
            cells += ["" if share is None else f"{share:.0%}", slower]
        beside = cases.eager(name).split(", ")[1] if name in MEMBERS else ""
        if any(cells):
            rows.append([name, *cells, beside])
    heads = [f"ms per step (ratio to {BASE_W})"]
    for model in cases.FAMILY:
        heads += [model, "of limit", "times as fast"]
    return ["", *lines_of([*heads, "as, eager"], rows)] if rows else []
