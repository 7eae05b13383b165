"""Compiles CUDA kernels with g++ and the shim beside this file, and runs them under a sanitizer."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).parent
SANITIZERS = {
    # Checks of addresses by calls, not inline: compiling is what takes long.
    "asan": [
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *("--param", "asan-instrumentation-with-call-threshold=0"),
    ],
    "tsan": ["-fsanitize=thread"],
}
FLAVOURS = list(SANITIZERS)
ORDERS = ["forward", "reverse", "seeded"]
FAULT = 66
"""The exit status of a program in which the shim or a sanitizer found something."""

_OPTIONS = {
    # Leaks cannot be looked for in many containers, and are not what this is about.
    "ASAN_OPTIONS": f"detect_leaks=0:exitcode={FAULT}",
    "UBSAN_OPTIONS": f"print_stacktrace=1:exitcode={FAULT}",
    "TSAN_OPTIONS": f"halt_on_error=1:exitcode={FAULT}:atexit_sleep_ms=0",
}


@dataclass(frozen=True)
class Executable:
    path: Path
    flavour: str

    def run(
        self,
        *args: str,
        order: str = "forward",
        seed: int = 0,
        blocks: int = 1,
        timeout: float = 120,
        **settings: str,
    ) -> subprocess.CompletedProcess[str]:
        """Runs it with threads and blocks in this order, so many blocks at a time; never raises for
        its exit status. Of `settings`, capability="8" is SIMT_CAPABILITY in its environment."""
        prefix = _fixed_addresses() if self.flavour == "tsan" else []
        settings |= {"order": order, "seed": str(seed), "blocks": str(blocks)}
        simt = {f"SIMT_{name.upper()}": value for name, value in settings.items()}
        env = {**os.environ, **_OPTIONS, **simt}
        command = [*prefix, str(self.path), *args]
        return subprocess.run(command, env=env, timeout=timeout, capture_output=True, text=True)


Source = Path | tuple[Path, Sequence[str]]
"""A file, and flags for it alone where it needs any."""


def compile(
    sources: Sequence[Source],
    output: Path,
    flavour: str,
    flags: Sequence[str] = (),
    jobs: int | None = None,
) -> Executable:
    """An executable of these .cu and .cpp files and the shim; RuntimeError says what g++ says.

    Only the .cu files are given cuda_runtime.h, as by nvcc, which includes it without being asked.
    """
    objects = output.with_name(output.name + ".objects")
    objects.mkdir(parents=True, exist_ok=True)
    base = ["g++", "-std=c++20", "-g1", "-I", str(HERE / "include")]
    sanitized = [*base, "-O1", *SANITIZERS[flavour], *flags]
    # What the sanitizers must know of it, the scheduler tells them itself.
    commands = [[*base, "-O2", f"-DSIMT_{flavour.upper()}", "-c", str(HERE / "simt.cpp")]]
    for item in sources:
        source, own = item if isinstance(item, tuple) else (item, ())
        cuda = ["-include", "cuda_runtime.h"] if source.suffix == ".cu" else []
        commands.append([*sanitized, *own, *cuda, "-x", "c++", "-c", str(source)])
    names = [str(objects / f"{i}.o") for i in range(len(commands))]
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        list(pool.map(_call, ([*c, "-o", n] for c, n in zip(commands, names, strict=True))))
    _call([*sanitized, *names, "-o", str(output)])
    return Executable(output, flavour)


def compile_once(sources: Sequence[Source], output: Path, flavour: str) -> Executable:
    """What `compile` makes, or has made for another process, which this one waits for."""
    with FileLock(output.with_name(output.name + ".lock")):
        return Executable(output, flavour) if output.exists() else compile(sources, output, flavour)


@functools.cache
def unavailable(flavour: str) -> str:
    """Why this machine cannot compile or run with the sanitizers; empty where it can.

    Only that: what is wrong with the shim or the kernels must fail, not skip.
    """
    if shutil.which("g++") is None:
        return "there is no g++"
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "trial.cpp", Path(folder) / "trial"
        source.write_text("int main() { return 0; }\n")
        try:
            _call(["g++", *SANITIZERS[flavour], str(source), "-o", str(program)])
        except RuntimeError as error:
            return f"g++ cannot compile with {flavour}: {error}"
        result = Executable(program, flavour).run()
        if result.returncode:
            return f"a program compiled with {flavour} does not run: {result.stderr}"
    return ""


def _call(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr}")


@functools.cache
def _fixed_addresses() -> list[str]:
    """TSan of an older g++ does not know all addresses at which a newer Linux puts things."""
    prefix = ["setarch", platform.machine(), "-R"]
    if shutil.which("setarch") is None:
        return []
    works = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if works else []
