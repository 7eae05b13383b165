"""What compilers made of the CUDA code: index arithmetic, and the machine code of every kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from sphere_fused import plan

DTYPE_SETS = 7
DIRECTIONS = ["moment", "previous", "adam", "nesterov"]  # which serves "sign"
# __launch_bounds__(256, 2): two blocks share the 65,536 registers of a multiprocessor.
MOST_REGISTERS = 65_536 // (2 * 256)


def test_index_arithmetic_far_beyond_32_bits() -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no c++ to compile the assertions of policy_test.cpp")
    source = Path(__file__).parent / "policy_test.cpp"
    command = [compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def tool(name: str) -> str:
    """A disassembler: Triton brings them, and so does the CUDA toolkit."""
    spec = importlib.util.find_spec("triton")
    folders = (
        [str(Path(spec.origin).parent / "backends/nvidia/bin")] if spec and spec.origin else []
    )
    folders += [f"{os.environ['CUDA_HOME']}/bin"] if "CUDA_HOME" in os.environ else []
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"there is no {name}: neither Triton nor the CUDA toolkit is installed")
    return found


@cache
def module_path() -> str:
    if plan.compiled is None:
        pytest.skip(f"the compiled module is missing: {plan.compiled_import_error}")
    if (built := plan.compiled.BUILD["CUDA"]).startswith("not built"):
        pytest.skip(f"the CUDA kernels were {built}")
    return str(plan.compiled.__file__)


def built_for() -> list[str]:
    module_path()
    assert plan.compiled is not None
    numbers = re.findall(r"(\d+)\.(\d+[af]?)", plan.compiled.BUILD["CUDA"].split(", for ")[1])
    return [f"sm_{major}{minor}" for major, minor in numbers]


class Kernel(NamedTuple):
    """A kernel by what its mangled name says; vectors is None where it has none or both."""

    architecture: str
    name: str
    direction: str
    vectors: bool | None
    dtypes: str


def kernel(architecture: str, mangled: str) -> Kernel | None:
    """None for the kernel that begins a step."""
    found = re.search(
        r"\d([a-z]+(?:_[a-z]+)*_units)I(?:LNS_9DirectionE(\d)E)?(?:Lb(\d)E)?(\w+)EEvNS", mangled
    )
    if found is None:
        assert "begin_entries" in mangled, mangled
        return None
    name, direction, vectors, dtypes = found.groups()
    return Kernel(
        architecture,
        name,
        DIRECTIONS[int(direction)] if direction else "any",
        None if vectors is None else vectors == "1",
        dtypes,
    )


@cache
def resources() -> list[tuple[Kernel | None, dict[str, int]]]:
    command = [tool("cuobjdump"), "--dump-resource-usage", module_path()]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    architecture = name = ""
    for line in listing.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif match := re.match(r" Function (\S+):", line):
            name = match[1]
        elif line.startswith("  REG:"):
            numbers = {k: int(n) for k, n in re.findall(r"(\w+):(\d+)", line)}
            found.append((kernel(architecture, name), numbers))
    return found


def test_every_kernel_is_there_for_every_architecture() -> None:
    assert built_for()
    # For every direction: small segments, rows of three kinds as vectors or not, columns of two;
    # and surveys, the second for the directions of rules that ask for them.
    per_dtypes = len(DIRECTIONS) * (1 + 3 * 2 + 2) + 1 + 2
    counts = Counter(k.architecture for k, _ in resources() if k)
    assert counts == dict.fromkeys(built_for(), DTYPE_SETS * per_dtypes)


def test_no_kernel_has_a_stack_or_too_many_registers() -> None:
    assert resources()
    for which, used in resources():
        assert used["STACK"] == 0, (which, used)
        assert used["LOCAL"] == 0, (which, used)
        assert used["SHARED"] <= 1024, (which, used)  # what the driver reserves; ours is dynamic
        assert used["REG"] <= MOST_REGISTERS, (which, used)


def instructions(architecture: str) -> dict[Kernel, Counter[str]]:
    """How often each kernel has each instruction that moves memory."""
    wanted = re.compile(r"\b((?:LDG|STG|LDL|STL|LD|ST)(?:\.[A-Z0-9_]+)*)\s")
    found: dict[Kernel, Counter[str]] = {}
    environment = {**os.environ, "PATH": f"{Path(tool('nvdisasm')).parent}:{os.environ['PATH']}"}
    command = [tool("cuobjdump"), "--dump-sass", "--gpu-architecture", architecture, module_path()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as dump:
        assert dump.stdout is not None
        which = None
        for line in dump.stdout:
            if "Function :" in line:
                which = kernel(architecture, line.split(":")[1].strip())
                if which:
                    found[which] = Counter()
            elif which and (match := wanted.search(line)):
                found[which][match[1]] += 1
    assert dump.returncode == 0
    return found


def least_wide(which: Kernel) -> tuple[int, int]:
    """How many 16-byte loads and stores a kernel must have for w, g and m to be moved by them."""
    sizes = {"f": 4, "d": 8, "13__nv_bfloat16": 2, "6__half": 2}
    weight = next(name for name in sizes if which.dtypes.startswith(name))
    gradient = which.dtypes[len(weight) :]
    w = sizes[weight]
    g = sizes.get(gradient, w)  # S5_: the same once more
    moment = max(w, 4)
    vector = 16 // min(w, g)
    previous, adam = which.direction == "previous", which.direction == "adam"
    sums_little = which.direction in ("moment", "previous")
    held = {8: 8 if sums_little else 4, 4: 32 if which.direction == "moment" else 16}[moment]
    at_once = max((16 if adam else 32) // moment // vector, 1)  # vectors that a thread asks for
    w, g, m = (size * vector // 16 for size in (w, g, moment))
    v = m if adam else 0
    if which.name == "cluster_units" and int(re.sub(r"\D", "", which.architecture)) < 90:
        return 0, 0  # there are no clusters
    if which.name == "small_units":
        # Single elements, with v, and, where the direction has none, without; and tiles.
        tile = -(-15360 // moment // (256 * vector))
        alone = max(32 // moment // vector, 1)
        loads = alone * (w + g + 2 * m) + tile * (w + g + m + v)
        stores = alone * (w + 2 * m) + tile * (w + m + v)
        return loads + alone * (w + g + m) * (not adam), stores + alone * (w + m) * (not adam)
    if which.name == "long_row_units":
        return 2 * at_once * (w + g + m + v), at_once * (w + m + v)  # two sweeps
    if which.name == "survey_units":
        return at_once * (w + g), 0
    if which.name == "survey_more_units":
        return at_once * (w + g + m + v), 0
    chunks = held // vector
    # Every chunk; with "previous", g once more.
    return chunks * (w + g * (1 + previous) + m + v), chunks * (w + m + v)


# In three tests, because disassembling takes long.
@pytest.mark.parametrize("part", range(3))
def test_memory_is_moved_128_bits_at_a_time_and_nothing_spills(part: int) -> None:
    architectures = built_for()[part::3]
    if not architectures:
        pytest.skip(f"the CUDA kernels were built for {part} architectures only")
    kernels = {k: n for a in architectures for k, n in instructions(a).items()}
    assert len(kernels) == len([k for k, _ in resources() if k and k.architecture in architectures])
    for which, counts in kernels.items():
        local = [name for name in counts if name.startswith(("LDL", "STL"))]
        assert not local, (which, local)
        # Only the shared memory of other blocks has no instructions of its own.
        among = ("ST",) if which.name == "cluster_units" else ("LD", "ST")
        generic = [name for name in counts if name.split(".")[0] in among]
        assert not generic, (which, generic)
        if which.vectors or which.name in ("small_units", "survey_units", "survey_more_units"):
            loads, stores = least_wide(which)
            wide = dict.fromkeys(("LDG", "STG"), 0)
            for name, n in counts.items():
                if "128" in name:
                    wide[name[:3]] += n
            assert wide["LDG"] >= loads, (which, counts)
            assert wide["STG"] >= stores, (which, counts)
