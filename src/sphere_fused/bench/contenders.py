"""Who takes the steps that are timed: ours, torch's, other people's, and a plain copy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.optimizer import ParamsT

from sphere_fused import AdamSRT, plan
from sphere_fused.backends import BACKENDS, reference
from sphere_fused.bench import peers
from sphere_fused.bench.cases import LIMITS, Case
from sphere_fused.bench.family import HOW, MEMBERS
from sphere_fused.bench.limits import time_limit
from sphere_fused.bench.names import (
    BASE,
    BASE_W,
    CAPTURED,
    COMPILED,
    COPY,
    FOREACH,
    LOOP,
    OURS,
    REFERENCE,
    STREAM,
    TRITON,
)
from sphere_fused.bench.shapes import Shape, Shapes
from sphere_fused.hyper import GroupHyper

Step = Callable[[], object]
OPTIMIZERS: dict[str, Callable[[ParamsT], Optimizer]] = {
    BASE: lambda p: Adam(p, fused=True),
    BASE_W: lambda p: AdamW(p, fused=True),
    FOREACH: lambda p: Adam(p, foreach=True),
    LOOP: lambda p: Adam(p, foreach=False, fused=False),
    **{
        f"{name}, {how}" if how else name: functools.partial(member.make, backend=backend)
        for name, member in MEMBERS.items()
        for how, backend in HOW.items()
    },
}
ABOUT: dict[str, str] = {
    COPY: "torch's copy of as many bytes as AdamSRT's step moves",
    STREAM: "a compiled loop that reads three float32 arrays and writes two, as many bytes",
    OURS: "this package, compiled: C++ or CUDA",
    TRITON: "this package in Triton",
    CAPTURED: "this package, a step replayed from a CUDA graph",
    REFERENCE: "this package in plain torch, eager",
    COMPILED: "the reference under torch.compile, a program for every shape",
    BASE: "torch.optim.Adam(fused=True)",
    BASE_W: "torch.optim.AdamW(fused=True)",
    FOREACH: "torch.optim.Adam(foreach=True)",
    LOOP: "torch.optim.Adam(foreach=False, fused=False)",
    **{name: peer.about for name, peer in peers.PEERS.items()},
}
LARGEST_BUFFER = 2**28  # bytes of one array of a copy or stream: far more than a cache
FIRST_STEPS = 2
PATIENCE = 120.0  # seconds until these are done, or a contender is absent


class Contender(NamedTuple):
    """state: what stays between steps, nested at will. bare: a step of as many tensors with next
    to nothing in them."""

    step: Step
    state: Any = ()
    bare: Step | None = None


def parameters(
    shapes: Shapes, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    params = [torch.randn(s, device=device, dtype=dtype).requires_grad_() for s in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def smallest(shape: Shape) -> Shape:
    """With as many dims: one element, or one row of two, as rows of one are stepped otherwise."""
    return (1,) * (len(shape) - 1) + (min(2, len(shape)),)


def grouped(case: Case, params: list[torch.Tensor]) -> list[dict[str, Any]]:
    own = [[p] for p in params] if case.own_groups else [params]
    # AdamH's are others, and some optimizers have none.
    dims = {} if case.channel_dims == (0,) else {"channel_dims": case.channel_dims}
    # So small that weights stay where they are: of gradients that are always the same they would
    # come to lie along them, where sums cancel and are measured, which training hardly ever sees.
    return [{"params": group, "lr": 1e-6 / (i + 1), **dims} for i, group in enumerate(own)]


def pieces(total: int, size: int) -> tuple[int, int]:
    """How many turns over how many elements take `total` elements of `size` bytes."""
    turns = max(1, math.ceil(total * size / LARGEST_BUFFER))
    return turns, max(1, total // turns)


def copying(size: int, device: str) -> Step:
    """Moves `size` bytes, half of them read and half written."""
    turns, count = pieces(size // 8, 4)
    source, target = (torch.randn(count, device=device) for _ in range(2))

    def copy() -> None:
        for _ in range(turns):
            target.copy_(source)

    return copy


def streaming(size: int) -> Step:
    """Moves `size` bytes, three fifths of them read and two written."""
    assert plan.compiled is not None
    stream, threads = plan.compiled.stream, torch.get_num_threads()
    turns, count = pieces(size // 20, 4)
    arrays = [torch.zeros(count) for _ in range(3)]
    w, g, m = (array.data_ptr() for array in arrays)

    def run(_keeps: list[torch.Tensor] = arrays) -> None:
        for _ in range(turns):
            stream(w, g, m, count, threads)

    return run


def captured(params: ParamsT) -> Contender:
    """Replays a CUDA graph of one step."""
    optimizer = AdamSRT(params, backend="native", capturable=True)
    optimizer.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()

    def replay(_keeps: Optimizer = optimizer) -> None:  # whose tensors the graph writes to
        graph.replay()

    return Contender(replay, optimizer.state)


def compiled_reference(params: list[torch.Tensor]) -> Contender:
    """AdamSRT's reference under torch.compile: one program per shape, called for every tensor.

    (One program for all tensors takes inductor minutes.)
    """
    torch._dynamo.config.recompile_limit = 100
    optimizer = AdamSRT(params, backend="reference")
    hyper: GroupHyper = optimizer.hyper(optimizer.param_groups[0])
    segments, classic = optimizer.rule, optimizer.classic

    @torch.compile(dynamic=False, fullgraph=True)
    def step_one(
        w: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, step: torch.Tensor
    ) -> None:
        inside = tuple(range(1, w.dim())) if v.shape != w.shape else ()
        rule = segments if inside else classic
        step.add_(1)
        h = hyper.at(step.double(), rule, math.prod(w.shape[1:]), w.numel())
        before = reference.Tensors(w, m, None if inside else v, v if inside else None, None)
        after = reference.stepped(rule, inside or None, before, g, h)
        w.copy_(after.w)
        m.copy_(after.m)
        second = after.s if inside else after.v
        assert second is not None
        v.copy_(second)

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

    return Contender(step_all, [(m, v, step) for _, _, m, v, step in tensors])


def absent(name: str, device: str) -> str:
    """Why it cannot step here, or ''."""
    if name in peers.PEERS:
        return peers.absent(name, device)
    if name == CAPTURED and device == "cpu":
        return "the CPU has no CUDA graphs"
    if name == STREAM:
        if device != "cpu":
            return "it is a loop for CPUs"
        return "" if hasattr(plan.compiled, "stream") else "the compiled module has none"
    member, _, how = name.partition(", ")
    if member not in MEMBERS or how not in HOW:
        return ""
    return "; ".join(BACKENDS[HOW[how]].unavailable(torch.device(device)))


def contender(name: str, case: Case, device: str, params: list[torch.Tensor]) -> Contender:
    if name in LIMITS:
        size = case.traffic()
        return Contender(copying(size, device) if name == COPY else streaming(size))
    if name == COMPILED:
        return compiled_reference(params)
    if name == CAPTURED:
        return captured(grouped(case, params))
    if name in peers.PEERS:
        optimizer = peers.PEERS[name].make(params)
    else:
        optimizer = OPTIMIZERS[name](grouped(case, params))
    return Contender(optimizer.step, optimizer.state)


def described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def made(name: str, case: Case, device: str, params: list[torch.Tensor]) -> Contender:
    """Warmed up."""
    found = contender(name, case, device, params)
    if device == "cpu" and name not in (COMPILED, *LIMITS):
        few = parameters([smallest(shape) for shape in case.shapes], device, params[0].dtype)
        found = found._replace(bare=contender(name, case, device, few).step)
    for step in filter(None, (found.bare, found.step)):
        for _ in range(FIRST_STEPS):
            step()
    return found


def make(case: Case, device: str) -> tuple[dict[str, Contender], dict[str, dict[str, str]]]:
    """The contenders, warmed up, and what is told of the others: the `error` of one that failed,
    or why one is `absent` here."""
    # The same parameters for all, which compute but do not learn.
    params = parameters(case.shapes, device, getattr(torch, case.dtype))
    present: dict[str, Contender] = {}
    others: dict[str, dict[str, str]] = {}
    for name in case.contenders:
        if reason := absent(name, device):
            others[name] = {"absent": reason}
            continue
        with time_limit(PATIENCE) as clock:
            try:
                present[name] = made(name, case, device, params)
            except Exception as error:  # must not cost the others
                others[name] = {"error": described(error)}
        if clock.rang:
            present.pop(name, None)
            others[name] = {"absent": f"its first steps took more than {PATIENCE:.0f} s"}
    return present, others
