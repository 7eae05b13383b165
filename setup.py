"""Builds the compiled module with ninja. It needs a C++20 compiler, and no torch.

SPHERE_FUSED_NATIVE=0 asks for a pure Python install; CXX names another compiler, and CXXFLAGS adds
to its flags.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pybind11
from ninja import BIN_DIR
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CSRC = Path(__file__).parent.resolve() / "csrc"
CXX = shlex.split(os.environ.get("CXX", "c++"))
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-Wall", "-Wextra"]
# Vectors wider than the registers are passed between our own functions only, so that their
# calling convention, of which -Wpsabi warns, matters to nobody else.
FLAGS += ["-Wno-psabi", "-Wno-unknown-warning-option"]
FLAGS += shlex.split(os.environ.get("CXXFLAGS", ""))


def compiles(*flags: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.cpp"
        source.write_text("int main() { return 0; }\n")
        command = [*CXX, *flags, str(source), "-o", str(Path(folder) / "try")]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False


def objects() -> dict[str, tuple[str, list[str]]]:
    """Each object file with its source and the flags that are its own."""

    def kernels(isa: str, table: str) -> list[str]:
        return [f"-DSPHERE_ISA={isa}", f"-DSPHERE_KERNELS={table}"]

    found = {
        "module.o": ("module.cpp", []),
        "schedule.o": ("cpu/schedule.cpp", []),
        "step_baseline.o": ("cpu/step.cpp", kernels("baseline", "kBaseline")),
    }
    if platform.machine().lower() in ("x86_64", "amd64"):
        v3 = [*kernels("x86_64_v3", "kX86_64_v3"), "-march=x86-64-v3"]
        found["step_v3.o"] = ("cpu/step.cpp", v3)
    return found


class NinjaBuild(build_ext):
    """Compiles in parallel, and again only what changed."""

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        openmp = ["-fopenmp"] if compiles("-fopenmp") else []
        write_if_changed(folder / "build_info.h", build_info(openmp))
        write_if_changed(folder / "build.ninja", self.rules(target, openmp))
        subprocess.run([Path(BIN_DIR) / "ninja", "-C", folder], check=True)

    def rules(self, target: Path, openmp: list[str]) -> str:
        includes = [".", pybind11.get_include(), sysconfig.get_paths()["include"]]
        flags = [*FLAGS, *openmp, *(f"-isystem {i}" for i in includes)]
        link = ["-undefined dynamic_lookup"] if sys.platform == "darwin" else ["-Wl,-O1"]
        lines = [
            f"cxx = {' '.join(CXX)}",
            f"flags = {' '.join(flags)}",
            "rule compile",
            "  command = $cxx -MMD -MF $out.d $flags $own -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "rule link",
            f"  command = $cxx -shared {' '.join([*openmp, *link])} $in -o $out",
        ]
        for name, (source, own) in objects().items():
            lines += [f"build {name}: compile {escaped(CSRC / source)}", f"  own = {' '.join(own)}"]
        return "\n".join([*lines, f"build {escaped(target)}: link {' '.join(objects())}", ""])


def escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def build_info(openmp: list[str]) -> str:
    """What was built and why, for `python -m sphere_fused info`: pip hides what is printed here."""
    version = subprocess.run([*CXX, "--version"], capture_output=True, text=True).stdout
    told = {
        "compiler": version.split("\n")[0],
        "threads": "OpenMP" if openmp else f"one: {CXX[0]} does not take -fopenmp",
        "CUDA": "not built: this version has no CUDA kernels yet",
    }
    rows = [f"    {{{json.dumps(key)}, {json.dumps(value)}}}," for key, value in told.items()]
    return "\n".join(["constexpr const char* kBuild[][2] = {", *rows, "};", ""])


native = os.environ.get("SPHERE_FUSED_NATIVE", "1")
if native not in ("0", "1"):
    raise SystemExit(f"SPHERE_FUSED_NATIVE must be 0 or 1, not {native!r}")
if native == "1" and not compiles("-std=c++20"):
    raise SystemExit(
        f"sphere_fused needs a C++20 compiler and '{' '.join(CXX)}' is none. "
        "Install one (Debian: apt-get install g++; macOS: xcode-select --install), name it in "
        "CXX, or set SPHERE_FUSED_NATIVE=0 for a slow, pure Python install."
    )
setup(
    ext_modules=[Extension("sphere_fused._native", sources=[])] if native == "1" else [],
    cmdclass={"build_ext": NinjaBuild},
)
