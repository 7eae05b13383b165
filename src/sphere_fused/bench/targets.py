"""What a step must reach: tables, for an H100 and for a CPU, applied to what has been measured.

Every target bounds the ratio of two times that were taken in turn in one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sphere_fused.bench import cases
from sphere_fused.bench.family import MEMBERS
from sphere_fused.bench.names import (
    BASE,
    BASE_W,
    COMPILED,
    COPY,
    OURS,
    REFERENCE,
    STREAM,
    TRITON,
)

BIG = ("GPT-2 124M", "ResNet-50", "Llama 3.2 1B")
SMALL = ("CIFAR ResNet-20", "465 groups of one tensor")
MANY, SOME = "1,000 tensors of 64", "300 tensors"
FLOAT32, BFLOAT16 = "models, float32", "models, bfloat16"
SMALL_FLOAT32, COMPILED_FLOAT32 = "small, float32", "compiled, float32"


class Target(NamedTuple):
    """The `time` of contender `above` over that of `below` is to be at least, or most, `bound`."""

    section: str
    case: str
    asked: str
    time: str  # device, wall or host
    above: str
    below: str
    bound: float
    at_least: bool


def share_of_copy(section: str, case: str, bound: float) -> Target:
    asked = f"at least {bound:.0%} of the copy rate"
    return Target(section, case, asked, "device", COPY, OURS, bound, True)


def share_of_stream(case: str, bound: float) -> Target:
    asked = f"at least {bound:.0%} of the stream's rate"
    return Target(FLOAT32, case, asked, "wall", STREAM, OURS, bound, True)


def named(contender: str) -> str:
    """In what is asked, which is of the native backend if nothing else is told."""
    return "Triton: " if contender == TRITON else ""


def of_adam(
    section: str, case: str, time: str, bound: float, told: str, ours: str = OURS
) -> Target:
    what = {"device": "time", "wall": "wall time", "host": "host time"}[time]
    asked = f"{named(ours)}at most {told} of the {what} of {BASE}"
    return Target(section, case, asked, time, ours, BASE, bound, False)


def faster_than(
    section: str, case: str, slower: str, bound: float, ours: str = OURS, time: str = "device"
) -> Target:
    than = slower.removeprefix(OURS + ", ")
    how = "faster than" if bound == 1 else f"at least {bound:g} times as fast as"
    asked = f"{named(ours)}{how} {than}"
    return Target(section, case, asked, time, slower, ours, bound, True)


def of_cuda(section: str, case: str, bound: float) -> Target:
    asked = f"Triton: at most {bound:g} of the time in CUDA"
    return Target(section, case, asked, "device", TRITON, OURS, bound, False)


def of_family(found: list[cases.Case], time: str) -> Iterator[Target]:
    """Of every optimizer that has a bound, beside torch's fused AdamW and what is eager."""
    what = {"device": "time", "wall": "wall time"}[time]
    for case in found:
        for name, member in MEMBERS.items():
            if member.bound is None or name not in case.contenders:
                continue
            asked = f"{name}: at most {member.bound:.2f} of the {what} of {BASE_W}"
            where = (case.section, case.name)
            yield Target(*where, asked, time, name, BASE_W, member.bound, False)
            slower = cases.eager(name)
            asked = f"{name}: at least 8 times as fast as {slower}"
            yield Target(*where, asked, time, slower, name, 8, True)


def time_of(case: str) -> str:
    """What counts on a GPU: wall time where the device has little to do."""
    return "wall" if case in SMALL else "device"


ON_GPU = [
    *(share_of_copy(FLOAT32, case, 0.92) for case in BIG),
    *(of_adam(FLOAT32, case, "device", 0.75, "0.75") for case in BIG),
    *(share_of_copy(BFLOAT16, case, 0.85) for case in BIG),
    *(faster_than(FLOAT32, case, REFERENCE, 10, time=time_of(case)) for case in cases.ON_GPU),
    *(
        faster_than(COMPILED_FLOAT32, case, COMPILED, 1.5, time=time_of(case))
        for case in cases.COMPILED_ON_GPU
    ),
    *(of_adam(SMALL_FLOAT32, case, "wall", 1 / 3, "a third") for case in SMALL),
    of_adam(SMALL_FLOAT32, MANY, "host", 1 / 5, "a fifth"),
    *(of_cuda(FLOAT32, case, 1.25) for case in BIG),
    *(
        faster_than(COMPILED_FLOAT32, case, COMPILED, 1, TRITON, time_of(case))
        for case in cases.COMPILED_ON_GPU
    ),
    of_adam(SMALL_FLOAT32, SOME, "host", 0.15, "0.15", TRITON),
    *(share_of_copy(case.section, case.name, 0.8) for case in cases.rows()),
    *of_family(cases.family_on_gpu(), "device"),
]
ON_CPU = [
    *(of_adam(FLOAT32, case, "wall", 0.75, "0.75") for case in BIG[:2]),
    *(share_of_stream(case, 0.88) for case in BIG[:2]),
    of_adam(FLOAT32, "CIFAR ResNet-20", "wall", 0.25, "0.25"),
    of_adam(SMALL_FLOAT32, MANY, "wall", 0.1, "0.10"),
    *(of_adam(BFLOAT16, case, "wall", 0.8, "0.8") for case in cases.IN_BFLOAT16_ON_CPU),
    *(
        faster_than(case.section, case.name, REFERENCE, 8, time="wall")
        for case in (*cases.models_on_cpu(), *cases.small_on_cpu())
        if REFERENCE in case.contenders and case.dtype == "float32"
    ),
    of_adam(SMALL_FLOAT32, MANY, "host", 0.1, "a tenth"),
    *of_family(cases.family_on_cpu(), "wall"),
]


def milliseconds(row: dict[str, Any], time: str) -> Any:
    """None if it was not timed. Where the device is no separate one, its time is wall time."""
    told = row.get(f"{time}_ms") or (row.get("wall_ms") if time == "device" else None)
    return told and told["median"]


def judged(target: Target, sections: dict[str, Any]) -> dict[str, Any]:
    rows = sections.get(target.section, {}).get(target.case, {}).get("rows", {})
    row: dict[str, Any] = {
        "case": f"{target.case}, {target.section.split(', ')[-1]}",
        "target": target.asked,
        "value": None,
        "met": None,
    }
    times = [milliseconds(rows.get(name, {}), target.time) for name in (target.above, target.below)]
    if None not in times:
        ratio = times[0] / times[1]
        row["value"] = round(ratio, 4)
        row["met"] = ratio >= target.bound if target.at_least else ratio <= target.bound
    return row


def judge(sections: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """A row for every target: case, target, value (None: not measured) and whether it is met."""
    return [judged(target, sections) for target in (ON_CPU if device == "cpu" else ON_GPU)]
