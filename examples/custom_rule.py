"""An optimizer of one's own in ten lines, tested against plain torch and timed.

    python examples/custom_rule.py

AdamSRT turns a filter by an angle in proportion to lr/|w|: the longer the filter, the slower it
turns. AngularAdam scales the step by |w|/radius, so that it is lr/radius at every norm.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import torch
from torch import Tensor

import sphere_fused as sf
from sphere_fused.backends import BACKENDS
from sphere_fused.rule import Gram, Hyper, Rule, Scalar, Update, sqrt


def angular(gram: Gram, s: Scalar, h: Hyper) -> Update:
    s = h.beta2 * s + h.gain2 * gram.gg
    lr = h.lr * sqrt(gram.ww) / h.own.radius
    a = lr * h.sqrt_dim / (h.bc1 * (sqrt(s / h.bc2) + h.eps))
    return Update(s=s, a_w=h.decay, a_x=-a)


class AngularAdam(sf.AdamS):
    """AdamSRT whose steps turn a filter by an angle that does not depend on its norm."""

    rule = Rule("angular", angular, land=sf.AdamSRT.rule.land, own=("radius",))


HYPER: dict[str, Any] = {"lr": 0.01, "eps": 1e-8, "betas": (0.9, 0.99), "radius": 2.0}
STEPS = 10
# Relative, of the weights after so many steps.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
ADAM = "torch.optim.Adam, fused"
# Triton's interpreter runs on the CPU, and tells nothing about speed.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def plain_torch(w: Tensor, grads: list[Tensor]) -> Tensor:
    """Where AngularAdam ends, written as its formulas are on paper; filters are rows."""
    lr, eps, radius, (beta1, beta2) = (HYPER[k] for k in ("lr", "eps", "radius", "betas"))
    m, v = torch.zeros_like(w), torch.zeros_like(w[:, :1])
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g).sum(dim=1, keepdim=True)
        adam = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
        new = w - lr * w.norm(dim=1, keepdim=True) / radius * w.shape[1] ** 0.5 * adam
        # The state is rescaled and transported to the new point.
        n = (new * new).sum(dim=1, keepdim=True) + eps
        m = ((w * new).sum(1, keepdim=True) * m - (m * new).sum(1, keepdim=True) * w) / n
        w, v = new, v * (w * w).sum(dim=1, keepdim=True) / n
    return w


def distance(backend: str, dtype: torch.dtype, device: str) -> float:
    """How far AngularAdam on that backend ends from plain torch in float64."""
    generator = torch.Generator().manual_seed(0)
    start, *grads = (torch.randn(12, 27, generator=generator) for _ in range(STEPS + 1))
    expected = plain_torch(start.double(), [g.double() for g in grads])
    w = start.to(device, dtype)
    optimizer = AngularAdam([w], backend=backend, **HYPER)
    for g in grads:
        w.grad = g.to(device, dtype)
        optimizer.step()
    return float((w.double().cpu() - expected).norm() / expected.norm())


def unavailable(backend: str, device: str) -> str:
    """Why that backend cannot run there, or ''."""
    return "; ".join(BACKENDS[backend].unavailable(torch.device(device)))


def contenders(device: str) -> dict[str, torch.optim.Optimizer]:
    """Optimizers of tensors like those of a small convolutional network, with gradients."""

    def parameters() -> list[Tensor]:
        shapes = [(64, 3, 3, 3), *[(64, 64, 3, 3)] * 8, (10, 64), *[(64,)] * 9]
        tensors = [torch.randn(shape, device=device) for shape in shapes]
        for p in tensors:
            p.grad = torch.randn_like(p)
        return tensors

    found: dict[str, torch.optim.Optimizer] = {ADAM: torch.optim.Adam(parameters(), fused=True)}
    for name in ("native", "triton", "reference"):
        if unavailable(name, device) or (name == "triton" and INTERPRETED):
            continue
        found[f"AdamSRT, {name}"] = sf.AdamSRT(parameters(), backend=name)
        if name != "native":  # which has the rules that it was built with, and no others
            found[f"AngularAdam, {name}"] = AngularAdam(parameters(), backend=name, radius=2.0)
    return found


def medians(optimizers: dict[str, torch.optim.Optimizer], device: str) -> dict[str, float]:
    """Milliseconds per step. They take turns, because a machine's speed drifts."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for turn in range(60):
        for name, optimizer in optimizers.items():
            wait()
            begin = time.perf_counter()
            optimizer.step()
            wait()
            if turn >= 10:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(of_one) for name, of_one in times.items()}


def main() -> None:
    device = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
    for backend in ("reference", "triton"):
        if why := unavailable(backend, device):
            print(f"{backend} is not tested: {why}")
            continue
        for dtype, allowed in TOLERANCE.items():
            off = distance(backend, dtype, device)
            print(f"{backend}, {str(dtype)[6:]}: off by {off:.1e}, allowed {allowed:.0e}")
            assert off <= allowed, "AngularAdam does not follow its formulas"

    times = medians(contenders(device), device)
    print(f"\n{'a step on ' + device:<26}{'ms':>8}{'ratio':>8}")
    for name, ms in times.items():
        print(f"{name:<26}{ms:8.3f}{ms / times[ADAM]:8.2f}")


if __name__ == "__main__":
    main()
