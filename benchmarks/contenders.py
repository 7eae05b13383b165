"""Who takes the steps that are timed: ours, torch's, our reference, and a plain copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from names import BASE, CAPTURED, COMPILED, COPY, FOREACH, OURS, REFERENCE, TRITON
from shapes import Shapes
from torch.optim import Adam, Optimizer

import sphere_fused
from sphere_fused.backends import BACKENDS, reference
from sphere_fused.plan import GroupHyper

if TYPE_CHECKING:
    from cases import Case
    from torch.optim.optimizer import ParamsT

Step = Callable[[], object]
OPTIMIZERS: dict[str, Callable[[ParamsT], Optimizer]] = {
    OURS: lambda p: sphere_fused.AdamSRT(p, backend="native"),
    TRITON: lambda p: sphere_fused.AdamSRT(p, backend="triton"),
    BASE: lambda p: Adam(p, fused=True),
    FOREACH: lambda p: Adam(p, foreach=True),
    REFERENCE: lambda p: sphere_fused.AdamSRT(p, backend="reference"),
}


def parameters(
    shapes: Shapes, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    params = [torch.randn(s, device=device, dtype=dtype).requires_grad_() for s in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def copying(size: int, device: str) -> Step:
    """Moves `size` bytes, half of them read and half written."""
    source = torch.randn(size // 8, device=device)
    target = torch.randn(size // 8, device=device)
    return lambda: target.copy_(source)


def captured(params: ParamsT) -> Step:
    """Replays a CUDA graph of one step."""
    optimizer = sphere_fused.AdamSRT(params, backend="native", capturable=True)
    optimizer.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()

    def replay(_keeps: Optimizer = optimizer) -> None:  # whose state the graph writes to
        graph.replay()

    return replay


def compiled_reference(params: list[torch.Tensor]) -> Step:
    """AdamSRT's reference under torch.compile: one program per shape, called for every tensor.

    (One program for all tensors takes inductor minutes.)
    """
    torch._dynamo.config.recompile_limit = 100
    optimizer = sphere_fused.AdamSRT(params, backend="reference")
    hyper: GroupHyper = optimizer.hyper(optimizer.param_groups[0])
    segments, classic = optimizer.rule, optimizer.classic

    @torch.compile(dynamic=False, fullgraph=True)
    def step_one(
        w: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, step: torch.Tensor
    ) -> None:
        inside = tuple(range(1, w.dim())) if v.shape != w.shape else ()
        rule = segments if inside else classic
        step.add_(1)
        h = hyper.at(step.double(), math.prod(w.shape[1:]))
        x, new_m, new_v = reference.moments(rule, g, m, v, h)
        u = reference.decide(rule, w, x, g, new_v, inside, h)
        if inside:
            new_m = u.b_w * w + u.b_x * x
        w.copy_(u.a_w * w + u.a_x * x)
        m.copy_(new_m)
        v.copy_(u.s)

    tensors = []
    for p in params:
        assert p.grad is not None
        whole = torch.zeros_like(p, requires_grad=False)
        first_of_each = (slice(None),) + (slice(1),) * (p.dim() - 1)
        v = whole[first_of_each].clone()
        step = torch.zeros((), device=p.device)
        tensors.append((p, p.grad, whole, v, step))

    @torch.no_grad()
    def step_all() -> None:
        for w, g, m, v, step in tensors:
            step_one(w, g, m, v, step)

    return step_all


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def make(case: Case, device: str) -> tuple[dict[str, Step], dict[str, dict[str, str]]]:
    """The contenders, warmed up, and what is told of the others: the `error` of one that failed,
    or why one is `absent` here."""
    # The same parameters for all, which compute but do not learn.
    params = parameters(case.shapes, device, getattr(torch, case.dtype))
    own = [[p] for p in params] if case.own_groups else [params]
    made: dict[str, Step] = {}
    others: dict[str, dict[str, str]] = {}
    absent = {TRITON: BACKENDS["triton"].unavailable(torch.device(device))}
    absent[CAPTURED] = ["the CPU has no CUDA graphs"] if device == "cpu" else []
    for name in case.contenders:
        groups = [
            {"params": group, "lr": 1e-3 / (i + 1), "channel_dims": case.channel_dims}
            for i, group in enumerate(own)
        ]
        if reasons := absent.get(name):
            others[name] = {"absent": "; ".join(reasons)}
            continue
        try:
            if name == COPY:
                step = copying(case.traffic(), device)
            elif name == COMPILED:
                step = compiled_reference(params)
            elif name == CAPTURED:
                step = captured(groups)
            else:
                step = OPTIMIZERS[name](groups).step
            for _ in range(3):
                step()
            made[name] = step
        except Exception as error:  # must not cost the others
            others[name] = {"error": described(error)}
    return made, others
