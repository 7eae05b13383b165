"""`python -m sphere_fused selftest`: every optimizer on every backend and device of this machine.

Each run is compared with a float64 oracle that shares no code with the package. Shown is the
error as a share of what is allowed: twice the error of a straightforward transcription in the same
precision, and a little. Above 1 is a failure.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

import sphere_fused
from sphere_fused.backends import BACKENDS
from sphere_fused.optim import OPTIMIZERS
from sphere_fused.oracles import tolerance

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# On a GPU each length of row is another kernel's.
SHAPES = ((16, 3, 3, 3), (8, 16, 3, 3), (33, 27), (8, 1000), (8, 4608), (1, 100_003), (257,))
STEPS = 4


# Settings in which every part of an optimizer is alive, beside an lr and a weight decay. Of random
# tensors some are orthogonal to their gradients up to a delta of 1.5, by filters or as a whole.
OWN: dict[str, dict[str, Any]] = {
    "SGDMRT": {"momentum": 0.9, "dampening": 0.1},
    "AdamG": {"grad_clip": 1.0},
    "AdamP": {"delta": 1.5, "nesterov": True},
    "SGDP": {"momentum": 0.9, "delta": 1.5, "nesterov": True},
    "NormAdamW": {"radius": "sqrt_dim", "tangent": True},
    "RotationalSGDM": {"momentum": 0.9, "nesterov": True},
    "RiemannianSGD": {"momentum": 0.9, "nesterov": True},
    "LARS": {"momentum": 0.9, "trust_coefficient": 1e-2},
}
# It does nothing on a unit sphere, and AdamH takes none.
NO_DECAY = ("AdamG", "AdamH", "RiemannianAdam", "RiemannianSGD")


def hyperparameters(name: str) -> dict[str, Any]:
    decay = {} if name in NO_DECAY else {"weight_decay": 1e-2}
    return {"lr": 1e-2, **decay, **OWN.get(name, {})}


def worst_share(name: str, backend: str, dtype: torch.dtype, device: str) -> float:
    """The largest error of `name` over tensors of all shapes, in units of the allowed error."""
    generator = torch.Generator().manual_seed(0)
    hyper = hyperparameters(name)
    start, grads = [], []
    for shape in SHAPES:
        tensors = [torch.randn(shape, generator=generator).to(dtype) for _ in range(STEPS + 1)]
        if len(shape) == 4:
            tensors = [t.to(memory_format=torch.channels_last) for t in tensors]
        start.append(tensors[0])
        grads.append(tensors[1:])
    params = [w0.to(device, copy=True) for w0 in start]
    optimizer = getattr(sphere_fused, name)(params, backend=backend, **hyper)
    for of_this_step in zip(*grads, strict=True):
        for p, g in zip(params, of_this_step, strict=True):
            p.grad = g.to(device)
        optimizer.step()
    worst = 0.0
    for w0, of_one, p in zip(start, grads, params, strict=True):
        for share in tolerance.shares(name, w0, of_one, p.cpu(), optimizer.state[p], **hyper):
            # A NaN must not be lost in a maximum.
            worst = max(worst, math.inf if math.isnan(share) else share)
    return worst


def main(arguments: list[str]) -> int:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    failed = False
    print("error / allowed error, at most 1\n")
    head = "  ".join(f"{str(dtype)[6:]:>9}" for dtype in DTYPES)
    width = max(len(optimizer.__name__) for optimizer in OPTIMIZERS) + 2
    print(f"{'optimizer':<{width}}{'backend':<19}{head}")
    for device, (backend, module) in itertools.product(devices, BACKENDS.items()):
        where = f"{backend} on {device}"
        if reasons := module.unavailable(torch.device(device)):
            print(f"{'(all)':<{width}}{where:<19}not run: {'; '.join(reasons)}")
            continue
        for name in (optimizer.__name__ for optimizer in OPTIMIZERS):
            shares = [worst_share(name, backend, dtype, device) for dtype in DTYPES]
            failed |= any(share > 1.0 for share in shares)
            cells = "  ".join(f"{share:9.2f}" for share in shares)
            print(f"{name:<{width}}{where:<19}{cells}")
    print("\nFAILED: see the entries above 1" if failed else "\nall within what is allowed")
    return int(failed)
