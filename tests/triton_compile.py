"""Compiles a step's kernels for GPUs that are not here, and tells as JSON what became of them.

    python triton_compile.py '[["AdamSRT", "float32", "cuda", 90, "wide", "narrow"], ...]'

A script, because Triton compiles in processes without TRITON_INTERPRET only, and to be run with
other versions of Triton. Nothing is launched.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
import triton_stub
from cases import typical

import sphere_fused
from sphere_fused.backends import triton as backend

# Rows of every shape with wide loads, with narrow ones, then single elements and columns.
WIDE = [(64, 16), (64, 64), (64, 512), (64, 1024), (64, 2048), (2, 8192), (64,)]
NARROW = [(4, 9), (4, 27), (4, 147), (4, 999), (4, 5001), (63,)]
COLUMNS = [(9, 40), (900, 40), (9, 33), (900, 33)]
PARTS = [(1, 2**17), (1, 2**17 + 1)]
SHORT = {"bfloat16": "bf16", "float16": "f16"}
MODELS = {"wide": WIDE, "narrow": NARROW, "columns": COLUMNS, "parts": PARTS}


def resources(kernel: Any) -> dict[str, int]:
    """Registers and bytes of stack per thread."""
    if "amdgcn" in kernel.asm:
        text = kernel.asm["amdgcn"]
        found = (
            re.search(r"\.vgpr_count:\s*(\d+)", text),
            re.search(r"\.private_segment_fixed_size:\s*(\d+)", text),
        )
    else:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
            Path(cubin.name).write_bytes(kernel.asm["cubin"])
            folder = Path(triton.__file__).parent / "backends/nvidia/bin"
            command = [str(folder / "cuobjdump"), "-res-usage", cubin.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.search(r"REG:(\d+)", text), re.search(r"STACK:(\d+)", text)
    registers, stack = (int(each[1]) for each in found if each)
    return {"registers": registers, "stack": stack}


def accesses(kernel: Any) -> dict[str, int]:
    """How many loads and stores there are of 16 bytes, and others."""
    if "amdgcn" in kernel.asm:
        found = re.findall(r"(?:global|flat|buffer)_(?:load|store)_(\w+)", kernel.asm["amdgcn"])
        wide = sum(name.startswith("dwordx4") for name in found)
    else:
        found = re.findall(r"(?:ld|st)\.global[\w.]*", kernel.asm["ptx"])
        wide = sum(name.endswith(("v4.b32", "v2.b64")) for name in found)
    return {"wide": wide, "narrow": len(found) - wide}


def the_kernels() -> list[Any]:
    """Those of the only job since they were last asked for: Triton does not tell GPUs apart."""
    from sphere_fused.backends.triton import begin, kernels, survey

    found = []
    for function in (kernels.step_all, survey.survey, survey.judge, begin.begin):
        caches = function.device_caches
        found += [k for cache in caches.values() for k in cache[0].values()]
        caches.clear()
    return found


def main(jobs: list[list[Any]]) -> None:
    messages: list[str] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("sphere_fused").addHandler(handler)
    logging.getLogger("sphere_fused").setLevel(logging.DEBUG)
    backend.unavailable = lambda device: []
    for name, dtype, target, arch, *kinds in jobs:
        for kind in kinds or MODELS:
            shapes = MODELS[kind]
            messages.clear()
            driver = triton_stub.install(target, arch, 64 if target == "hip" else 32)
            params = [torch.randn(s).to(getattr(torch, dtype)) for s in shapes]
            for p in params:
                p.grad = torch.randn_like(p)
            make, hyper = getattr(sphere_fused, name), typical(name)
            if "channel_dims" in inspect.signature(make).parameters:
                hyper = {**hyper, "channel_dims": (1,) if kind == "columns" else (0,)}
            optimizer = make(params, backend="triton", **hyper)
            optimizer.step()
            loaded = list(driver.loaded)
            optimizer.step()
            found = the_kernels()
            row = {
                "job": [name, dtype, target, arch],
                "shapes": kind,
                "loaded": loaded,
                "launches": len(driver.launches),
                "messages": list(messages),
                "kernels": [{"name": k.name, **resources(k), **accesses(k)} for k in found],
                "rounds": any(f"cvt.rn.{SHORT.get(dtype)}" in k.asm.get("ptx", "") for k in found),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
