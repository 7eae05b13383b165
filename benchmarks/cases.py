"""What `make gpu` times, as data: every case of the table of targets, and what runs beside it."""

from __future__ import annotations

import math
from typing import NamedTuple

from names import BASE, CAPTURED, COMPILED, COPY, FOREACH, OURS, REFERENCE, TRITON
from shapes import GPU_MODELS, LARGE_MODELS, SMALL_MODELS, Shapes

ELEMENTS = 2**25  # of a tensor of the rows: 128 MiB of weights in float32, far more than an L2
TINY_ELEMENTS = 2**12
ROWS = (9, 27, 147, 576, 768, 1024, 1152, 2048, 2304, 3072, 4608, 8192, 16384, 28672)
LONG_ROWS = (131072, 1048576)
COLUMNS = (128, 768, 4096)
IN_BFLOAT16 = ("rows of 9", "rows of 147", "rows of 768", "rows of 3,072", "rows of 28,672")
ONE_ROW, MILLION = "one row", "a million rows of 9"
TINY_MODEL: Shapes = [(8, 4, 3, 3), (8,), (10, 64)]
GIB = 2**30


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
    needs: int = 0  # bytes of free memory

    def elements(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    def traffic(self, per_segment: bool = True) -> int:
        """Bytes of a step: w read and written, g read, float32 moments read and written.

        A second moment that is kept `per_segment` counts where segments have one element only.
        """
        size = 2 if self.dtype == "bfloat16" else 4
        total = 0
        for shape in self.shapes:
            inside = math.prod(n for d, n in enumerate(shape) if d not in self.channel_dims)
            keeps_second = not per_segment or inside == 1
            total += math.prod(shape) * (3 * size + (16 if keeps_second else 8))
        return total


def models(dry_run: bool) -> list[Case]:
    everyone = (COPY, OURS, TRITON, BASE, FOREACH, REFERENCE)
    cases = [Case("models, float32", n, s, everyone) for n, s in GPU_MODELS.items()]
    cases += [
        Case("models, float32", n, s, (COPY, OURS, TRITON, BASE), needs=64 * GIB)
        for n, s in LARGE_MODELS.items()
    ]
    cases += [
        Case(
            "models, bfloat16",
            n,
            s,
            (COPY, OURS, TRITON),
            "bfloat16",
            needs=36 * GIB * (n in LARGE_MODELS),
        )
        for n, s in (GPU_MODELS | LARGE_MODELS).items()
    ]
    return [c._replace(shapes=TINY_MODEL, needs=0) if dry_run else c for c in cases]


def one_tensor(
    name: str, shape: tuple[int, int], dtype: str = "float32", channel_dims: tuple[int, ...] = (0,)
) -> Case:
    contenders = (COPY, OURS, TRITON)
    return Case(f"rows, {dtype}", name, [shape], contenders, dtype, channel_dims, seconds=2.5)


def rows(dry_run: bool) -> list[Case]:
    elements = TINY_ELEMENTS if dry_run else ELEMENTS
    shapes = {f"rows of {n:,}": (max(elements // n, 1), n) for n in (*ROWS, *LONG_ROWS)}
    shapes[ONE_ROW] = (1, elements)
    shapes[MILLION] = (min(10**6, elements), 9)
    cases = [one_tensor(name, shape) for name, shape in shapes.items()]
    for n in COLUMNS:
        shape = (n, max(elements // n, 1))
        cases.append(one_tensor(f"columns of {n:,}", shape, channel_dims=(1,)))
    cases += [one_tensor(name, shapes[name], "bfloat16") for name in IN_BFLOAT16]
    return cases


def small() -> list[Case]:
    return [
        Case(
            "small, float32",
            name,
            shapes,
            (OURS, TRITON, CAPTURED, BASE, FOREACH),
            own_groups="groups" in name,
            rounds=100,
            seconds=4.0,
        )
        for name, shapes in SMALL_MODELS.items()
    ]


def benchmark(dry_run: bool) -> list[Case]:
    return [*models(dry_run), *rows(dry_run), *small()]


def compiled(dry_run: bool) -> list[Case]:
    """Those whose programs inductor has soonest come first."""
    names = (COPY, BASE, OURS, TRITON, COMPILED)
    cases = [Case("compiled, float32", n, s, names) for n, s in GPU_MODELS.items()]
    cases.sort(key=lambda case: len(set(case.shapes)))
    return [c._replace(shapes=TINY_MODEL) if dry_run else c for c in cases]


def tuning(dry_run: bool, ours: str = OURS) -> list[Case]:
    """What benchmarks/tune.py compares builds by."""
    of_models = [c for c in models(dry_run) if c.name in ("GPT-2 124M", "ResNet-50")]
    return [
        c._replace(contenders=(COPY, ours), rounds=20, seconds=2.0)
        for c in (*of_models, *rows(dry_run))
    ]


def profiled(dry_run: bool) -> list[Case]:
    """Of which the profiler looks at one step."""
    wanted = {f"rows of {n:,}" for n in (9, 147, 768, 3072, 8192, 28672, 131072)}
    wanted.add("columns of 768")
    cases = [c for c in rows(dry_run) if c.dtype == "float32" and c.name in wanted]
    return [*cases, models(dry_run)[0]]
