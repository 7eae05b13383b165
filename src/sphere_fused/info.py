"""`python -m sphere_fused info`: what is installed here, what runs, and why the rest does not."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import torch

import sphere_fused
from sphere_fused import plan
from sphere_fused.backends import BACKENDS


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def main(arguments: list[str]) -> int:
    rows = [
        ("sphere_fused", f"{sphere_fused.__version__}, in {Path(sphere_fused.__file__).parent}"),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("Triton", version("triton")),
        ("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"),
    ]
    if plan.compiled is not None:
        rows += [(f"built: {what}", how) for what, how in plan.compiled.BUILD.items()]
        rows.append(("instruction sets", ", ".join(plan.compiled.instruction_sets())))
        table = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
        rows.append(("tensors checked", "in C" if table else "in Python: torch lacks the C table"))
    for name, backend in BACKENDS.items():
        for what, device in ((f"backend {name}", "cpu"), ("  on GPUs", "cuda")):
            reasons = backend.unavailable(torch.device(device))
            rows.append((what, "; ".join(reasons) or "available"))
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        print(f"{what:<{width}}  {value}")
    return 0
