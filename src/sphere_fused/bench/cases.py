"""What is timed, as data: every case, and who steps in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sphere_fused.bench.family import KINDS, MEMBERS, member_of
from sphere_fused.bench.names import (
    BASE,
    BASE_W,
    CAPTURED,
    COMPILED,
    COPY,
    FOREACH,
    HEAVYBALL,
    HYPERBALL,
    LOOP,
    OURS,
    PEERS,
    REFERENCE,
    STREAM,
    TRITON,
    reference_of,
)
from sphere_fused.bench.shapes import MODELS, SMALL_MODELS, Shapes

ELEMENTS = 2**25  # of a tensor of the rows: 128 MiB of weights in float32, far more than an L2
TINY_ELEMENTS = 2**12
ROWS = (9, 27, 147, 576, 768, 1024, 1152, 2048, 2304, 3072, 4608, 8192, 16384, 28672)
LONG_ROWS = (131072, 1048576)
COLUMNS = (128, 768, 4096)
IN_BFLOAT16 = ("rows of 9", "rows of 147", "rows of 768", "rows of 3,072", "rows of 28,672")
ONE_ROW, MILLION = "one row", "a million rows of 9"
TINY_MODEL: Shapes = [(8, 4, 3, 3), (8,), (10, 64)]

LIMITS, TORCHS = (COPY, STREAM), (BASE, FOREACH, LOOP)
EVERYONE = (*LIMITS, OURS, TRITON, *TORCHS, REFERENCE, COMPILED, *PEERS)
NOT_COMPILED = tuple(name for name in EVERYONE if name not in (COMPILED, HEAVYBALL))
# Who steps on a CPU. Programs are compiled per shape or per tensor, and a step of the eager ones
# takes seconds where weights are many: they are left out where it would take minutes.
ON_CPU: dict[str, tuple[str, ...]] = {
    "GPT-2 124M": EVERYONE,
    "ResNet-50": EVERYONE,
    "CIFAR ResNet-20": EVERYONE,
    "MobileNetV3": NOT_COMPILED,
    "ViT-B/16": (*LIMITS, OURS, *TORCHS, REFERENCE),
    "Llama 3 8B, one layer": (*LIMITS, OURS, BASE),
    "Llama 3.2 1B": (*LIMITS, OURS, BASE),
    "embedding of 1 GB": (*LIMITS, OURS, BASE, COMPILED),
    "1,000 tensors of 64": NOT_COMPILED,
    "1,000 filters of 8x8": (OURS, *TORCHS, REFERENCE),
    "465 groups of one tensor": (OURS, *TORCHS, REFERENCE),
}
# And on a GPU, where the rows tell more than large models do.
COMPILED_ON_GPU = ("GPT-2 124M", "ResNet-50", "CIFAR ResNet-20")
ON_GPU: dict[str, tuple[str, ...]] = dict.fromkeys(
    COMPILED_ON_GPU, (COPY, OURS, TRITON, BASE, FOREACH, REFERENCE)
)
SECONDS_ON_CPU = 3.0  # for each contender
FAMILY, FAMILY_SECTION = ("GPT-2 124M", "ResNet-50"), "family, float32"  # of every optimizer
FAMILY_SECONDS = 4.0  # likewise, to tell a ratio of 1.10 from one
IN_BFLOAT16_ON_CPU = ("GPT-2 124M", "ResNet-50")


class Case(NamedTuple):
    section: str
    name: str
    shapes: Shapes
    contenders: tuple[str, ...]
    dtype: str = "float32"
    channel_dims: tuple[int, ...] = (0,)
    own_groups: bool = False  # a group, with its own lr, for every tensor
    rounds: int = 30  # at most, and
    seconds: float = 6.0  # about as long at most

    def elements(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    def size(self) -> int:
        return 2 if self.dtype == "bfloat16" else 4

    def traffic(self, contender: str = OURS) -> int:
        """Bytes that a step must move: w read and written, g read, moments read and written.

        Our moments are float32; see `Member`. Others are taken to keep two for every weight, in its
        dtype.
        """
        size, total = self.size(), 0
        member = member_of(OURS if contender in LIMITS else contender)
        for shape in self.shapes:
            inside = math.prod(n for d, n in enumerate(shape) if d not in self.channel_dims)
            each = 7 * size
            if member is not None:
                each = member.bytes_per_weight(size, inside, math.prod(shape))
            total += math.prod(shape) * each
        return total

    def touched(self) -> int:
        """Bytes that a step of ours comes by: w, g and m."""
        return self.elements() * (2 * self.size() + 4)

    def memory(self) -> dict[str, int]:
        """Bytes that each contender needs beside parameters and gradients, roughly."""
        sizes = {}
        for name in self.contenders:
            member = member_of(name)
            state = 4 * member.moments if member else 2 * self.size()
            temporary = 8 if name == FOREACH else 24 if name.endswith(", reference") else 0
            sizes[name] = 0 if name in LIMITS else self.elements() * (state + temporary)
        return sizes


def tiny(case: Case) -> Case:
    return case._replace(shapes=TINY_MODEL)


def models_on_cpu() -> list[Case]:
    cases = []
    for name, shapes in MODELS.items():
        case = Case("models, float32", name, shapes, ON_CPU[name], rounds=200)
        cases.append(case._replace(seconds=SECONDS_ON_CPU * len(case.contenders)))
    for name in IN_BFLOAT16_ON_CPU:
        contenders = (*LIMITS, OURS, *TORCHS, REFERENCE)
        case = Case("models, bfloat16", name, MODELS[name], contenders, "bfloat16", rounds=200)
        cases.append(case._replace(seconds=SECONDS_ON_CPU * len(contenders)))
    return cases


def eager(member: str) -> str:
    """Who does the same in eager PyTorch: another package, or else our reference."""
    return MEMBERS[member].peer or reference_of(member)


def family_on_cpu() -> list[Case]:
    """A case for each kind, because their states would not fit into memory together. The reference
    takes 4 s for a step of GPT-2, and is timed there where a target asks for it."""
    cases = []
    for model in FAMILY:
        for kind in KINDS:
            members = [name for name, member in MEMBERS.items() if member.kind == kind]
            names = [STREAM, BASE_W, *members]
            for name in members:
                if MEMBERS[name].peer or MEMBERS[name].bound or model == "ResNet-50":
                    names.append(eager(name))
            names += [HYPERBALL] * ("AdamH" in members)
            names = list(dict.fromkeys(names))
            case = Case(FAMILY_SECTION, f"{model}, {kind}", MODELS[model], tuple(names), rounds=200)
            cases.append(case._replace(seconds=FAMILY_SECONDS * len(names)))
    return cases


def family_on_gpu() -> list[Case]:
    asked = [eager(name) for name, member in MEMBERS.items() if member.bound]
    names = tuple(dict.fromkeys((COPY, BASE_W, *MEMBERS, *asked)))
    return [Case(FAMILY_SECTION, m, MODELS[m], names, seconds=10.0) for m in FAMILY]


def models_on_gpu() -> list[Case]:
    few = (COPY, OURS, TRITON, BASE)
    cases = [Case("models, float32", n, s, ON_GPU.get(n, few)) for n, s in MODELS.items()]
    both = (*ON_GPU, "Llama 3.2 1B")
    cases += [Case("models, bfloat16", n, MODELS[n], (*few[:3],), "bfloat16") for n in both]
    return [case if case.name in both else case._replace(seconds=3.0) for case in cases]


def one_tensor(
    name: str, shape: tuple[int, int], dtype: str = "float32", channel_dims: tuple[int, ...] = (0,)
) -> Case:
    contenders = (COPY, OURS, TRITON)
    return Case(f"rows, {dtype}", name, [shape], contenders, dtype, channel_dims, seconds=2.5)


def rows(elements: int = ELEMENTS) -> list[Case]:
    shapes = {f"rows of {n:,}": (max(elements // n, 1), n) for n in (*ROWS, *LONG_ROWS)}
    shapes[ONE_ROW] = (1, elements)
    shapes[MILLION] = (min(10**6, elements), 9)
    cases = [one_tensor(name, shape) for name, shape in shapes.items()]
    for n in COLUMNS:
        shape = (n, max(elements // n, 1))
        cases.append(one_tensor(f"columns of {n:,}", shape, channel_dims=(1,)))
    cases += [one_tensor(name, shapes[name], "bfloat16") for name in IN_BFLOAT16]
    return cases


def small(contenders: dict[str, tuple[str, ...]], rounds: int, seconds: float) -> list[Case]:
    section = "small, float32"
    return [
        Case(section, name, (SMALL_MODELS | MODELS)[name], names)._replace(
            own_groups="groups" in name, rounds=rounds, seconds=seconds
        )
        for name, names in contenders.items()
    ]


def small_on_cpu() -> list[Case]:
    contenders = {name: ON_CPU[name] for name in SMALL_MODELS if name in ON_CPU}
    return small(contenders, rounds=200, seconds=20.0)


def small_on_gpu() -> list[Case]:
    contenders = (OURS, TRITON, CAPTURED, BASE, FOREACH)
    return small(
        dict.fromkeys(("CIFAR ResNet-20", *SMALL_MODELS), contenders), rounds=100, seconds=4.0
    )


def compiled_on_gpu() -> list[Case]:
    """Those whose programs inductor has soonest come first; last, other people's."""
    names = sorted(COMPILED_ON_GPU, key=lambda name: len(set(MODELS[name])))
    ours, theirs = (COPY, BASE, OURS, TRITON, COMPILED), (COPY, BASE, OURS, *PEERS)
    cases = [Case("compiled, float32", n, MODELS[n], ours) for n in names]
    return [*cases, *(Case("peers, float32", n, MODELS[n], theirs) for n in names)]


# By device: what `--suite` chooses from; all but the last of a GPU's are timed when none is chosen.
SUITES: dict[str, dict[str, Callable[[], list[Case]]]] = {
    "cpu": {"models": models_on_cpu, "small": small_on_cpu, "family": family_on_cpu},
    "cuda": {
        "models": models_on_gpu,
        "rows": rows,
        "small": small_on_gpu,
        "family": family_on_gpu,
        "compiled": compiled_on_gpu,
    },
}


def tuning(dry_run: bool, ours: str = OURS) -> list[Case]:
    """What benchmarks/tune.py compares builds by."""
    float32, bfloat16 = "models, float32", "models, bfloat16"
    wanted = [(f, n) for f in (float32, bfloat16) for n in ("GPT-2 124M", "ResNet-50")]
    cases = [c for c in models_on_gpu() if (c.section, c.name) in wanted]
    cases = [tiny(c) if dry_run else c for c in cases]
    return [
        c._replace(contenders=(COPY, ours), rounds=20, seconds=2.0)
        for c in (*cases, *rows(TINY_ELEMENTS if dry_run else ELEMENTS))
    ]


def profiled(dry_run: bool) -> list[Case]:
    """Of which the profiler looks at one step."""
    wanted = {f"rows of {n:,}" for n in (9, 147, 768, 3072, 8192, 28672, 131072)}
    wanted.add("columns of 768")
    cases = rows(TINY_ELEMENTS if dry_run else ELEMENTS)
    cases = [c for c in cases if c.dtype == "float32" and c.name in wanted]
    model = models_on_gpu()[0]
    return [*cases, tiny(model) if dry_run else model]
