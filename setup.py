"""Builds the compiled module with ninja. It needs a C++20 compiler, and no torch.

Environment:
    SPHERE_FUSED_NATIVE  0 asks for a pure Python install.
    SPHERE_FUSED_CUDA    1 asks for the CUDA kernels, 0 for none, auto (default) for them if nvcc is
                         found: under CUDA_HOME, or on PATH. No GPU is needed.
    TORCH_CUDA_ARCH_LIST compute capabilities to compile for, as in "8.0;9.0+PTX"; by default that
                         of the GPUs present, or else a list that serves all from 8.0 on.
    CXX, CXXFLAGS        another compiler, and more flags for it; NVCC_APPEND_FLAGS for nvcc's.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
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
NVCC_FLAGS = ["-std=c++20", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra"]
# The last may be newer than nvcc; PTX of 9.0 then serves it.
ARCHITECTURES, BEFORE_12_8 = "8.0;9.0;10.0+PTX", "8.0;9.0+PTX"
OLDEST_CUDA = (12, 1)  # C++20, and 32 KB of kernel parameters
# Every pair of dtypes of weight and gradient that has kernels.
CUDA_KERNELS = {
    "Float32": ("float", "float"),
    "Float64": ("double", "double"),
    "Float64Float32": ("double", "float"),
    "BFloat16": ("__nv_bfloat16", "__nv_bfloat16"),
    "BFloat16Float32": ("__nv_bfloat16", "float"),
    "Float16": ("__half", "__half"),
    "Float16Float32": ("__half", "float"),
}


def output_of(*command: str | Path) -> str:
    """What `command` prints, or '' if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def compiles(*flags: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.cpp"
        source.write_text("int main() { return 0; }\n")
        command = [*CXX, *flags, str(source), "-o", str(Path(folder) / "try")]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False


class Cuda:
    """The compiler of the CUDA half, or why there is none (`why_not`)."""

    def __init__(self) -> None:
        self.why_not = self._find()
        if not self.why_not:
            self.architectures = self._architectures()

    def _find(self) -> str:
        wanted = os.environ.get("SPHERE_FUSED_CUDA") or "auto"
        if wanted not in ("0", "1", "auto"):
            raise SystemExit(f"SPHERE_FUSED_CUDA must be 0, 1 or auto, not {wanted!r}")
        if wanted == "0":
            return "not built: SPHERE_FUSED_CUDA=0 asked for none"
        home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
        found = shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")
        why_not = self._refuse(found, home)
        if why_not and wanted == "1":
            raise SystemExit(
                f"SPHERE_FUSED_CUDA=1, but the CUDA kernels cannot be built: {why_not}"
            )
        return f"not built: {why_not}" if why_not else ""

    def _refuse(self, found: str | None, home: str | None) -> str:
        if sys.platform != "linux":
            return f"they are built on Linux, not on {sys.platform}"
        if not found:
            where = f"in {home}/bin (CUDA_HOME)" if home else "on PATH, and CUDA_HOME is not set"
            return f"there is no nvcc {where}"
        release = re.search(r"release (\d+)\.(\d+)", output_of(found, "--version"))
        if not release:
            return f"{found} --version failed"
        self.nvcc, self.version = found, (int(release[1]), int(release[2]))
        if self.version < OLDEST_CUDA:
            return f"{found} is {release[0]}; {'.'.join(map(str, OLDEST_CUDA))} or newer is needed"
        return ""

    def _architectures(self) -> list[str]:
        """Compute capabilities such as '9.0+PTX'."""
        listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
        present = output_of("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
        default = ARCHITECTURES if self.version >= (12, 8) else BEFORE_12_8
        names = listed or ";".join(sorted(set(present.split()))) or default
        chosen = list(dict.fromkeys(name for name in re.split(r"[;,\s]+", names) if name))
        if not chosen:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST={listed!r} names no compute capability")
        for name in chosen:
            if not re.fullmatch(r"\d+\.\d+[af]?(\+PTX)?", name):
                raise SystemExit(
                    f"TORCH_CUDA_ARCH_LIST has {name!r}, which is not understood: list compute "
                    f'capabilities, as in "8.0;9.0+PTX"'
                )
        return chosen

    def flags(self) -> list[str]:
        generate = []
        for name in self.architectures:
            number = name.removesuffix("+PTX").replace(".", "")
            kinds = ["sm", "compute"] if name.endswith("+PTX") else ["sm"]
            generate += [f"-gencode=arch=compute_{number},code={k}_{number}" for k in kinds]
        return [*NVCC_FLAGS, *self.host_compiler(), *generate]

    def host_compiler(self) -> list[str]:
        # Without what may stand before it, such as ccache.
        compiler = [word for word in CXX if not word.startswith("-")][-1]
        return ["-ccbin", shlex.quote(compiler)] if "CXX" in os.environ else []

    def told(self) -> str:
        if self.why_not:
            return self.why_not
        return f"{'.'.join(map(str, self.version))}, for {', '.join(self.architectures)}"


def objects(cuda: Cuda) -> dict[str, tuple[str, str, list[str]]]:
    """Each object file with the rule that makes it, its source, and the flags that are its own."""

    def kernels(isa: str, table: str) -> list[str]:
        return [f"-DSPHERE_ISA={isa}", f"-DSPHERE_KERNELS={table}"]

    found = {
        "module.o": ("compile", "module.cpp", [] if cuda.why_not else ["-DSPHERE_CUDA"]),
        "schedule.o": ("compile", "cpu/schedule.cpp", []),
        "step_baseline.o": ("compile", "cpu/step.cpp", kernels("baseline", "kBaseline")),
    }
    if platform.machine().lower() in ("x86_64", "amd64"):
        v3 = [*kernels("x86_64_v3", "kX86_64_v3"), "-march=x86-64-v3"]
        found["step_v3.o"] = ("compile", "cpu/step.cpp", v3)
    if not cuda.why_not:
        for name in ("begin", "steps"):
            found[f"cuda_{name}.o"] = ("cuda", f"cuda/{name}.cu", ["-DSPHERE_ISA=gpu"])
        for name, (w, g) in CUDA_KERNELS.items():
            own = [*kernels("gpu", f"k{name}Kernels"), f"-DSPHERE_W={w}", f"-DSPHERE_G={g}"]
            found[f"cuda_{name}.o"] = ("cuda", "cuda/step.cu", own)
    return found


class NinjaBuild(build_ext):
    """Compiles in parallel, and again only what changed."""

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        openmp = ["-fopenmp"] if compiles("-fopenmp") else []
        cuda = Cuda()
        print(f"CUDA kernels: {cuda.told()}")
        write_if_changed(folder / "build_info.h", build_info(openmp, cuda))
        write_if_changed(folder / "build.ninja", self.rules(target, openmp, cuda))
        if subprocess.run([Path(BIN_DIR) / "ninja", "-C", folder]).returncode:
            hint = "" if cuda.why_not else "; SPHERE_FUSED_CUDA=0 leaves out what nvcc compiles"
            raise SystemExit(f"compiling failed, for the reason above{hint}")

    def rules(self, target: Path, openmp: list[str], cuda: Cuda) -> str:
        includes = [".", pybind11.get_include(), sysconfig.get_paths()["include"]]
        flags = [*FLAGS, *openmp, *(f"-isystem {i}" for i in includes)]
        link = [*CXX, "-shared", *openmp]
        link += ["-undefined dynamic_lookup"] if sys.platform == "darwin" else ["-Wl,-O1"]
        lines = [
            f"cxx = {' '.join(CXX)}",
            f"flags = {' '.join(flags)}",
            "rule compile",
            "  command = $cxx -MMD -MF $out.d $flags $own -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
        ]
        if not cuda.why_not:
            lines += [
                f"nvcc = {shlex.quote(cuda.nvcc)} {' '.join(cuda.flags())}",
                "rule cuda",
                "  command = $nvcc -MMD -MF $out.d $own -c $in -o $out",
                "  depfile = $out.d",
                "  deps = gcc",
            ]
            # nvcc knows where its runtime is, whose symbols stay inside.
            link = [shlex.quote(cuda.nvcc), *cuda.host_compiler(), "-shared", "--no-device-link"]
            link += ["--cudart static", "-Xlinker --exclude-libs,ALL"]
            link += [f"-Xcompiler {flag}" for flag in openmp]
        lines += ["rule link", f"  command = {' '.join(link)} $in -o $out"]
        made = objects(cuda)
        for name, (rule, source, own) in made.items():
            lines += [f"build {name}: {rule} {escaped(CSRC / source)}", f"  own = {' '.join(own)}"]
        return "\n".join([*lines, f"build {escaped(target)}: link {' '.join(made)}", ""])


def escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def build_info(openmp: list[str], cuda: Cuda) -> str:
    """What was built and why, for `python -m sphere_fused info`: pip hides what is printed here."""
    told = {
        "compiler": output_of(*CXX, "--version").split("\n")[0],
        "threads": "OpenMP" if openmp else f"one: {CXX[0]} does not take -fopenmp",
        "CUDA": cuda.told(),
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
