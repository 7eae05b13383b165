"""What Triton makes of a step of AdamSRT, read off its machine code, without a GPU.

For the shapes of a few models: registers, stack and spills, shared memory and loads of the compiled
kernel, how long that took to compile, how many programs a step has, and which share of their lanes
holds an element, because lengths are padded to powers of two. Then warp instructions per element,
and what the step should take on an H100 under the assumptions of model.py. None of it is a
measurement on a GPU.

    python benchmarks/triton_resources.py [--arch 90]
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import model
import stubbed
import torch
import triton

import sphere_fused
from sphere_fused.backends.triton import begin, kernels, launch
from sphere_fused.backends.triton.shapes import PART, Shape, pieces_of, shape_of
from sphere_fused.bench import cases
from sphere_fused.bench.cases import Case

REGISTERS_OF_PROCESSOR, THREADS_OF_PROCESSOR = 65536, 2048
LOAD = re.compile(r"ld\.global(?:\.\w+)*?(?:\.v(\d))?\.b(\d+)")
INSTRUCTION = re.compile(
    r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(?:.*`\((\.L_x_\d+)\))?"
)
LABEL = re.compile(r"^(\.L_x_\d+):")
# Of the loops over a row that is too long to hold, the one that measures where digits cancel is
# hardly ever run; the other two are.
LOOPS_TAKEN = 2 / 3
# A tensor that is cut so.
EXAMPLES: dict[Shape, tuple[int, ...]] = {}


def tool(name: str, *arguments: str) -> str:
    command = [getattr(triton.knobs.nvidia, name).path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Compiled(NamedTuple):
    """The kernel that steps some tensors."""

    seconds: float  # the first step, which compiles it
    registers: int
    local: int  # bytes of stack and spills of a thread
    shared: int  # bytes of a program
    loads: str  # how many of how many bytes, as written in PTX
    instructions: int  # of a warp that takes every branch and every loop once
    in_loops: int  # of these


def counted(listing: str) -> tuple[int, int]:
    """Instructions to the kernel's end, and how many of them are in loops."""
    labels: dict[str, int] = {}
    codes: list[str] = []
    in_loops = 0
    for line in listing.splitlines():
        if found := LABEL.match(line):
            labels[found[1]] = len(codes)
        elif found := INSTRUCTION.search(line):
            codes.append(found[1])
            if found[1].startswith("BRA") and found[2] in labels:
                in_loops += len(codes) - labels[found[2]]
    # The last but one exit ends the kernel: what follows divides subnormal numbers.
    exits = [i for i, code in enumerate(codes) if code == "EXIT"]
    return exits[-2], in_loops


def compiled(shapes: cases.Shapes, dtype: torch.dtype) -> Compiled:
    kernel: Any = kernels.step_all
    for each in (begin.begin, kernel):
        each.device_caches.clear()
    # Never touched, so that no memory is behind them.
    params = [torch.empty(shape, dtype=dtype).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.empty_like(p)
    with tempfile.TemporaryDirectory() as folder, mock.patch("torch.zeros_like", torch.empty_like):
        os.environ["TRITON_CACHE_DIR"] = folder
        start = time.perf_counter()
        sphere_fused.AdamSRT(params, backend="triton").step()
        seconds = time.perf_counter() - start
        (made,) = (one for cache in kernel.device_caches.values() for one in cache[0].values())
        cubin = Path(folder) / "cubin"
        cubin.write_bytes(made.asm["cubin"])
        listing = tool("cuobjdump", "-res-usage", str(cubin))
        instructions = counted(tool("nvdisasm", "-c", str(cubin)))
    used = {key: int(n) for key, n in re.findall(r"(REG|STACK|LOCAL):(\d+)", listing)}
    sizes = Counter(int(n or 1) * int(bits) // 8 for n, bits in LOAD.findall(made.asm["ptx"]))
    loads = ", ".join(f"{n} of {size}" for size, n in sorted(sizes.items(), reverse=True))
    local = used["STACK"] + used["LOCAL"]
    return Compiled(seconds, used["REG"], local, made.metadata.shared, loads, *instructions)


@functools.cache
def alone(shape: Shape, dtype: torch.dtype) -> Compiled:
    """The kernel for one tensor that is cut into that Shape."""
    return compiled([EXAMPLES[shape]], dtype)


class Work(NamedTuple):
    """Of one tensor, which the backend cuts into programs."""

    programs: int
    lanes: int  # that are there for its elements
    waiting: float  # seconds that one program is there
    moved: int  # bytes from and to memory
    instructions: float  # of warps


def work(of_tensor: tuple[int, ...], dtype: torch.dtype, at_once: int) -> Work:
    """What model.py assumes, with so many programs on the device at once."""
    elements, dim = math.prod(of_tensor), math.prod(of_tensor[1:])
    shape: Shape = shape_of(dim == 1, dim, 1, 4, 16 // dtype.itemsize, "moment")
    programs = pieces_of(shape, *((1, 1, elements) if dim == 1 else (elements // dim, dim, 1)))
    chunks = 1 if shape.held else math.ceil(dim / shape.cols)
    moved = elements * (3 * dtype.itemsize + (16 if shape.single else 8))
    waiting = model.ENTRY + chunks * model.MEMORY + model.SUM["block"] + model.DECISION
    waiting += model.STORE
    if not shape.held:
        # Each reads its row again, which the others' rows may have driven out of the L2.
        read = 2 * dtype.itemsize + 4
        missed = max(0.0, 1 - model.L2_USABLE / (min(programs, at_once) * dim * read))
        moved += int(missed * elements * read)
        waiting += chunks * (model.L2 + missed * (model.MEMORY - model.L2))
    EXAMPLES.setdefault(shape, of_tensor)
    kernel = alone(shape, dtype)
    instructions = kernel.instructions + kernel.in_loops * LOOPS_TAKEN * (chunks - 1)
    return Work(
        programs,
        programs * shape.rows * shape.cols * chunks,
        waiting,
        moved,
        programs * launch.THREADS // 32 * instructions,
    )


def most_at_once(registers: int) -> int:
    """Programs on an H100."""
    threads = launch.THREADS
    of_program = math.ceil(registers / 8) * 8 * threads
    fit = min(REGISTERS_OF_PROCESSOR // of_program, THREADS_OF_PROCESSOR // threads)
    return fit * model.PROCESSORS


def predicted(works: list[Work], at_once: int) -> float:
    """Seconds of the step's two launches on an H100."""
    longest = max(w.waiting for w in works)
    times = [
        sum(w.moved for w in works) / model.COPY_RATE,
        max(sum(w.waiting * w.programs for w in works) / at_once, longest),
        sum(w.instructions for w in works) / (model.ISSUED * model.PROCESSORS * model.CLOCK),
    ]
    return model.BEGIN + model.LAUNCH + sum(t**4 for t in times) ** 0.25 + longest / 2


def line(case: Case) -> str:
    dtype = getattr(torch, case.dtype)
    found = compiled(case.shapes, dtype)
    at_once = most_at_once(found.registers)
    works = [work(shape, dtype, at_once) for shape in case.shapes]
    seconds = predicted(works, at_once)
    share = (case.traffic() / model.COPY_RATE + model.LAUNCH) / seconds
    lanes = case.elements() / sum(w.lanes for w in works)
    each = sum(w.instructions for w in works) / case.elements()
    return (
        f"| {case.name}, {case.dtype} | {found.seconds:.1f} s | {found.registers} | {found.local} "
        f"| {found.shared} | {found.loads} | {sum(w.programs for w in works):,} | {lanes:.0%} "
        f"| {each:.2f} | {seconds * 1e6:,.0f} us | {share:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", type=int, default=90, help="80, 90 or 100; default 90")
    arch = parser.parse_args().arch
    stubbed.install(arch)
    print(f"Triton {triton.__version__}, sm_{arch}\n")
    heads = ["case", "compiled in", "registers", "local", "shared", "loads, bytes", "programs"]
    heads += ["lanes in use", "warp instructions per element", "predicted, H100", "share of copy"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    # Segments in parts are another two kernels, which nothing here predicts.
    rows = [c for c in cases.rows() if c.channel_dims == (0,) and c.shapes[0][1] <= 2 * PART]
    for case in [*cases.models_on_gpu(), *rows]:
        print(line(case), flush=True)


if __name__ == "__main__":
    main()
