"""The native and the Triton backend on an NVIDIA GPU, as `make gpu` runs them.

SPHERE_FUSED_TEST_DEVICE=cpu runs what needs no GPU on the CPU, to try these tests themselves; with
TRITON_INTERPRET=1 also those of Triton, which take long: choose some with -k.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from cases import ALL, IDS, OPTIMIZERS, REPRESENTATIVES, known, over, typical
from layouts import LAYOUTS, Layout
from oracles.tolerance import IDENTITY, assert_close_to_oracle, assert_same, error
from stepping import assert_unchanged, make, random, random_grads, snapshot, take_steps
from test_oracle import DTYPE_IDS, DTYPES
from torch import Tensor
from torch.optim.lr_scheduler import ExponentialLR

from sphere_fused import plan
from sphere_fused.backends import BACKENDS

DEVICE = torch.device(os.environ.get("SPHERE_FUSED_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"


def missing(backend: str = "native") -> str:
    """Why its tests cannot run here, or ''."""
    if ON_GPU and not torch.cuda.is_available():
        return "needs an NVIDIA GPU: torch.cuda.is_available() is false"
    if backend == "triton":
        return "; ".join(BACKENDS["triton"].unavailable(DEVICE))
    if plan.compiled is None:
        return f"the compiled module is missing: {plan.compiled_import_error}"
    cuda = plan.compiled.BUILD["CUDA"]
    return f"CUDA kernels {cuda}" if ON_GPU and cuda.startswith("not built") else ""


pytestmark = [pytest.mark.cuda, pytest.mark.skipif(bool(missing()), reason=missing() or "runs")]
# One Triton kernel is compiled for every optimizer, pair of dtypes and set of shapes, seconds each:
# what follows a gradient, and what does not.
IN_TRITON = ("AdamSRT", "AdamG")
triton = [pytest.mark.skipif(bool(missing("triton")), reason=missing("triton") or "runs")]
native_and_triton = pytest.mark.parametrize(
    "backend", ["native", pytest.param("triton", marks=triton)]
)
in_triton = [pytest.param(name, "triton", marks=triton) for name in IN_TRITON]
all_in_both, each_in_both = (
    pytest.mark.parametrize(("name", "backend"), [(name, "native") for name in names] + in_triton)
    for names in (OPTIMIZERS, REPRESENTATIVES)
)
only_on_gpu = pytest.mark.skipif(not ON_GPU, reason=f"asks something of CUDA, not of {DEVICE}")
each = pytest.mark.parametrize("name", REPRESENTATIVES)
# To the others a tensor may be one segment.
IN_SEGMENTS = [name for name in REPRESENTATIVES if known(name, channel_dims=(0,))]
each_width = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])

Kind = tuple[tuple[int, ...], tuple[int, ...] | None]  # a shape and its channel_dims
# Either side of every edge of csrc/cuda/policy.h. Rows: a vector, a tile, and then 8 threads, twice
# as many, ..., 8 blocks that hold 8 (float64), 16 (AdamG) or 32 elements each; on to pieces of
# 2048 or 4096. Never one row: a single number can be a rounding worse than a lucky transcription.
EDGES = [32 << i for i in range(12)]
LENGTHS = [2, 3, 4, 5, 7, 8, 9, 147, *(e + i for e in EDGES for i in (-1, 0, 1, 8)), 69_632, 69_633]
KINDS: list[Kind] = [((5 if d < 4000 else 3, d), (0,)) for d in LENGTHS]
# Rows: of a tile, and as many as a block of 8 or 16 threads each takes at once.
KINDS += [((n, 9), (0,)) for n in (2, 8, 17, 207, 208, 209, 255, 256, 257, 301)]
KINDS += [((n, 32), (0,)) for n in (55, 56, 57, 119, 120, 121)]
KINDS += [((n, d), (0,)) for d, n in ((100, 31), (100, 32), (100, 33), (500, 17), (300, 70))]
# Single elements.
KINDS += [((n,), (0,)) for n in (2, 31, 1023, 1024, 1025, 2047, 2048, 2049, 9001)]
KINDS += [((), (0,)), ((33, 1), (0,)), ((6, 129), None)]
# Columns: a strip of 32, walks along it, pieces of 64 or 128 rows beyond 256. No large number of
# short ones, because a gradient all but parallel to a pair of weights leaves AdamG few digits.
SIZES = [(2, 5), (3, 8), (9, 31), (20, 1000), (27, 32), (31, 33), (64, 40), (65, 32), (147, 33)]
SIZES += [(255, 33), (256, 40), (257, 31), (320, 64), (384, 32), (385, 65), (1030, 65), (9001, 3)]
KINDS += [(size, (1,)) for size in SIZES]
KINDS += [((6, 129, 35), (0, 2)), ((3, 300, 35), (0, 2))]
LONG: list[Kind] = [((2, 150_001), (0,)), ((2000, 40), (1,)), ((20_001, 5), (1,))]
# So many pieces that 132 multiprocessors update some before others are summed; the second also has
# more counters to clear than a block has threads.
WIDE: list[Kind] = [((17, 70_001), (0,)), ((257, 4600), (1,))]
# A few of each tier.
FEW: list[Kind] = [((17, 9), (0,)), ((5, 147), (0,)), ((3, 2000), (0,)), ((2, 9001), (0,))]
FEW += [((2, 70_001), (0,)), ((33,), (0,)), ((27, 40), (1,)), ((1030, 3), (1,))]


weight, gradients = functools.cache(random), functools.cache(random_grads)


def of_kind(name: str, kind: Kind) -> dict[str, Any]:
    """Arguments for such tensors, where the optimizer takes them. Centred segments of two elements
    cannot turn, and of a few more little may be left: what Rotational would turn by is rounding."""
    shape, dims = kind
    inside = math.prod(n for d, n in enumerate(shape) if dims is not None and d not in dims)
    return known(name, channel_dims=dims, **({"zero_mean": False} if inside <= 4 else {}))


class Run:
    """An optimizer and its tensors on DEVICE, in groups by `of_kind`; `typical` unless told."""

    def __init__(
        self,
        name: str,
        kinds: Sequence[Kind],
        steps: int,
        dtype: torch.dtype = torch.float32,
        grad_dtype: torch.dtype | None = None,
        first: int = 0,  # number of the first tensor
        devices: Sequence[torch.device] = (DEVICE,),
        backend: str = "native",
        hyper: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.kinds, self.hyper = name, kinds, typical(name) if hyper is None else hyper
        numbered = [(first + i, shape) for i, (shape, _) in enumerate(kinds)]
        self.weights = [weight(*s, seed=10_000 + i, dtype=dtype) for i, s in numbered]
        grads = [
            gradients(s, steps, grad_dtype or dtype, seed=15_000 + 10 * i) for i, s in numbered
        ]
        self.grads = [list(of_step) for of_step in zip(*grads, strict=True)]
        placed = zip(self.weights, itertools.cycle(devices), strict=False)
        self.params = [w.to(device, copy=True) for w, device in placed]
        groups: dict[Any, list[Tensor]] = {}
        for p, kind in zip(self.params, kinds, strict=True):
            groups.setdefault(tuple(of_kind(name, kind).items()), []).append(p)
        listed = [{"params": members, **dict(own)} for own, members in groups.items()]
        self.optimizer = make(name, listed, backend, **self.hyper)

    def set_grads(self, grads: Sequence[Tensor | None]) -> None:
        for p, g in zip(self.params, grads, strict=True):
            p.grad = None
            if hasattr(p, "grad_dtype"):
                p.grad_dtype = p.dtype if g is None else g.dtype
            elif g is not None and g.dtype != p.dtype:
                pytest.skip("this torch has no Tensor.grad_dtype")
            p.grad = None if g is None else g.to(p.device, copy=True)

    def take(self, first: int = 0, last: int | None = None) -> Run:
        for of_step in self.grads[first:last]:
            self.set_grads(of_step)
            self.optimizer.step()
        return self

    def state(self, p: Tensor) -> dict[str, Tensor]:
        return dict(sorted(self.optimizer.state[p].items()))

    def outcome(self) -> list[Tensor]:
        return [t for p in self.params for t in (p, *self.state(p).values())]

    def assert_close(self) -> None:
        grads_of = zip(*self.grads, strict=True)
        of_all = zip(self.weights, grads_of, self.params, self.kinds, strict=True)
        for w0, grads, p, kind in of_all:
            state = {key: t.cpu() for key, t in self.state(p).items()}
            hyper = {**self.hyper, **of_kind(self.name, kind)}
            assert_close_to_oracle(self.name, w0, grads, p.cpu(), state, **hyper)


def assert_all_same(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert_same(a, e, f"tensor {i}")


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@all_in_both
def test_every_length_and_dtype(
    name: str, backend: str, dtype: torch.dtype, grad_dtype: torch.dtype
) -> None:
    if backend == "triton":
        Run(name, FEW, 2, dtype, grad_dtype, backend=backend).take().assert_close()
        return
    every = dtype == grad_dtype != torch.float16
    small = [kind for kind in KINDS if math.prod(kind[0]) < 20_000]
    kinds = KINDS + LONG if every else small + FEW
    Run(name, kinds, 2, dtype, grad_dtype).take().assert_close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@native_and_triton
@pytest.mark.parametrize(("name", "case", "hyper"), ALL, ids=IDS)
def test_every_case(
    name: str, case: str, hyper: dict[str, Any], backend: str, dtype: torch.dtype
) -> None:
    Run(name, FEW, 4, dtype, backend=backend, hyper=hyper).take().assert_close()


# Rows to either side of what SIZES holds, wide and narrow.
@pytest.mark.parametrize("dim", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=triton) for name in IN_TRITON])
def test_lengths_in_triton(name: str, dim: int) -> None:
    lengths = [2, 3, 8, 27, 64, 576, 768, 1000, 1023, 1024, 1025, 1030, 2047, 2048, 2049, 4096]
    kinds: list[Kind] = [((5, d), (0,)) if dim == 0 else ((d, 40), (1,)) for d in lengths]
    Run(name, kinds, 2, backend="triton").take().assert_close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ["native", "reference", pytest.param("triton", marks=triton)])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layouts(layout: Layout, backend: str, dtype: torch.dtype) -> None:
    def laid(t: Tensor) -> Tensor:
        with DEVICE:  # some layouts make something larger first
            return layout.make(t.to(DEVICE, copy=True))

    w0, grads = random(*layout.shape, seed=1, dtype=dtype), random_grads(layout.shape, 3, dtype)
    for name in IN_TRITON[:1] if backend == "triton" else OPTIMIZERS:
        hyper = {**typical(name), **of_kind(name, (layout.shape, layout.channel_dims))}
        p = laid(w0)
        # None: what does not lie in blocks is left to the reference.
        optimizer = make(name, [p], backend if layout.blocks else None, **hyper)
        take_steps(optimizer, [p], [[laid(g)] for g in grads])
        state = {key: value.cpu() for key, value in optimizer.state[p].items()}
        assert_close_to_oracle(name, w0, grads, p.cpu(), state, **hyper)


@native_and_triton
def test_a_gradient_may_change_its_dtype(backend: str) -> None:
    run = Run("AdamSRT", FEW, 4, torch.bfloat16, backend=backend)
    run.grads[1::2] = [[g.to(torch.float32) for g in of_step] for of_step in run.grads[1::2]]
    run.take().assert_close()


@each_in_both
def test_gradients_come_and_go(name: str, backend: str) -> None:
    """A step leaves out, with its state, what has no gradient; later ones find it again."""
    run = Run(name, FEW, 5, backend=backend)
    for t, of_step in enumerate(run.grads):
        run.grads[t] = [g if (i + t) % 3 else None for i, g in enumerate(of_step)]
    run.take().assert_close()


@pytest.mark.parametrize("second", ["cpu", "cuda:1"])
@each
def test_parameters_on_several_devices(name: str, second: str) -> None:
    if second == "cuda:1" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs; there are {torch.cuda.device_count()}")
    run = Run(name, FEW * 2, 3, devices=[DEVICE, torch.device(second)]).take()
    run.assert_close()
    for p in run.params:
        assert {t.device for t in run.state(p).values()} == {p.device}


def test_a_scheduler_sets_the_learning_rate() -> None:
    def scheduled(gamma: float, **options: Any) -> list[Tensor]:
        run = Run("AdamSRT", FEW, 5, torch.float64, hyper={"lr": 0.1}, **options)
        scheduler = ExponentialLR(run.optimizer, gamma)
        for t in range(5):
            run.take(t, t + 1)
            scheduler.step()
        return [p.cpu() for p in run.params]

    expected = scheduled(0.5, backend="reference", devices=[torch.device("cpu")])
    for p, e, constant in zip(scheduled(0.5), expected, scheduled(1.0), strict=True):
        assert error(p, e) <= IDENTITY[torch.float64] < error(constant, e)


@each_width
@each
def test_again_one_by_one_and_in_groups(name: str, dtype: torch.dtype) -> None:
    """A tensor's bits do not depend on what else is stepped."""
    kinds = KINDS + LONG + WIDE
    expected = Run(name, kinds, 2, dtype).take().outcome()
    assert_all_same(Run(name, kinds, 2, dtype).take().outcome(), expected)
    for size in (1, 5):
        parts = range(0, len(kinds), size)
        runs = [Run(name, kinds[i : i + size], 2, dtype, first=i).take() for i in parts]
        assert_all_same([t for run in runs for t in run.outcome()], expected)


@pytest.mark.parametrize("dim", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("length", [9, 147, 1024, 2000, 9001, 70_001])
@pytest.mark.parametrize("name", IN_SEGMENTS)
def test_whatever_the_segments_beside(name: str, length: int, dim: int) -> None:
    """A segment's bits do not depend on its place in the tensor."""
    if dim and not ON_GPU:
        pytest.skip("on the CPU, columns in a vector and those left over differ in a last bit")
    parts = [slice(37), slice(5, 37), slice(33, 37)]

    def cut(t: Tensor) -> list[Tensor]:
        return [t[part].transpose(0, dim).contiguous().to(DEVICE, copy=True) for part in parts]

    params = cut(random(37, length, seed=1))
    optimizer = make(name, params, "native", **over(name, (dim,)))
    take_steps(optimizer, params, [cut(g) for g in random_grads((37, length), 3)])
    for p in params[1:]:
        assert_same(p, params[0].narrow(dim, 37 - p.shape[dim], p.shape[dim]))


@each_width
@each
def test_at_any_address(name: str, dtype: torch.dtype) -> None:
    """Weights and gradients at every offset give the same bits, and nothing beside is written."""

    def at(t: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        room = torch.full((t.numel() + 16,), torch.nan, dtype=t.dtype, device=DEVICE)
        view = room[offset : offset + t.numel()].view(t.shape)
        return view.copy_(t), room

    kinds: list[Kind] = [((5, d), (0,)) for d in (8, 9, 147, 1024, 1030, 2048, 8192)]
    kinds += [((2, d), (0,)) for d in (9001, 9008, 70_001, 70_008)]
    kinds += [((2049,), (0,)), ((147, 40), (1,)), ((300, 40), (1,))]
    expected = Run(name, kinds, 2, dtype).take().outcome()
    for w_offset, g_offset in [*((i, 0) for i in range(8)), *((i % 8, i) for i in range(1, 8))]:
        run = Run(name, kinds, 2, dtype)
        placed = [at(p, w_offset) for p in run.params]
        for p, (view, _) in zip(run.params, placed, strict=True):
            p.data = view
        for of_step in run.grads:
            for p, g in zip(run.params, of_step, strict=True):
                p.grad = at(g, g_offset)[0]
            run.optimizer.step()
        assert_all_same(run.outcome(), expected)
        for view, room in placed:
            beside = torch.cat([room[:w_offset], room[w_offset + view.numel() :]])
            assert bool(beside.isnan().all())


@each
def test_many_groups_are_as_one_and_keep_their_learning_rates(name: str) -> None:
    kinds: list[Kind] = [((3, 2 + i % 50), (0,)) for i in range(400)]

    def outcome(groups: Sequence[Sequence[int]], *rates: float) -> list[Tensor]:
        run, listed = Run(name, kinds, 2), []
        for members, lr in zip(groups, itertools.cycle(rates), strict=False):
            listed.append({"params": [run.params[i] for i in members], "lr": lr})
        run.optimizer = make(name, listed, "native", **run.hyper)
        return run.take().outcome()

    alone, halves = [[i] for i in range(400)], [range(0, 400, 2), range(1, 400, 2)]
    assert_all_same(outcome(alone, 0.01), outcome([range(400)], 0.01))
    assert_all_same(outcome(alone, 0.01, 0.02), outcome(halves, 0.01, 0.02))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "backend"), [(name, "native") for name in IN_SEGMENTS] + in_triton
)
def test_nonfinite_gradients_stay_in_their_segment(name: str, backend: str, bad: float) -> None:
    clean, dirty = Run(name, FEW, 3, backend=backend).take(), Run(name, FEW, 3, backend=backend)
    dirty.grads[1] = [g.clone() for g in dirty.grads[1]]
    for g, (_, dims) in zip(dirty.grads[1], FEW, strict=True):
        segment = g.select(dims[0], 1)
        segment[(-1,) * segment.dim()] = bad  # its last element, or the only one
    dirty.take()
    for p, q, (_, dims) in zip(clean.params, dirty.params, FEW, strict=True):
        others = torch.tensor([0, *range(2, p.shape[dims[0]])], device=DEVICE)
        for key, expected in {"the weight": p, **clean.state(p)}.items():
            actual = {"the weight": q, **dirty.state(q)}[key]
            if key != "step":
                here, there = (t.index_select(dims[0], others) for t in (actual, expected))
                assert_same(here, there, key)
        # It is not hidden either: training on would look healthy. (Infinity has a sign.)
        kept = dirty.state(q)["exp_avg"] if name == "RotationalLion" else q
        assert not bool(kept.select(dims[0], 1).isfinite().all())


@each
def test_a_long_row_beside_many_small_tensors(name: str) -> None:
    kinds: list[Kind] = [((1, 2_000_003), (0,)), *(((3, 2 + i % 60), (0,)) for i in range(600))]
    runs = [Run(name, kinds, 3), Run(name, kinds[:1], 3), Run(name, kinds[1:], 3, first=1)]
    together, *apart = (run.take().outcome() for run in runs)
    assert_all_same(together, [t for outcome in apart for t in outcome])


LARGE = [("elements", 1), *(("rows", d) for d in (1024, 9000, 70_001)), ("columns", 200)]


@native_and_triton
@pytest.mark.parametrize(("lie", "length"), [*LARGE, ("columns", 1024)])
def test_beyond_2_to_the_31_elements(lie: str, length: int, backend: str) -> None:
    if ON_GPU:
        torch.cuda.empty_cache()
        if (free := torch.cuda.mem_get_info(DEVICE)[0] / 2**30) < 40:
            pytest.skip(f"needs 40 GiB of free memory; there are {free:.0f}")
    n = (2**31 if ON_GPU else 2**17) // length + 5
    shape = {"elements": (n,), "rows": (n, length), "columns": (length, n)}[lie]
    dim = int(lie == "columns")
    picked = [0, 1, n // 2, n - 6, n - 5, n - 1]  # the first n - 5 end where 31 bits do

    def part(t: Tensor) -> Tensor:
        return torch.cat([t.narrow(dim, i, 1) for i in picked], dim)

    torch.manual_seed(1)
    large, grad = (torch.randn(shape, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    params, grads = [large, part(large)], [grad, part(grad)]
    optimizers = [make("AdamSRT", [p], backend, channel_dims=(dim,)) for p in params]
    for p, g, optimizer in zip(params, grads, optimizers, strict=True):
        take_steps(optimizer, [p], [[g], [g]])
    # Of a tensor with fewer columns Triton makes another kernel, and on a CPU they fill no vector.
    other = lie == "columns" and (backend == "triton" or not ON_GPU)
    same = torch.testing.assert_close if other else assert_same
    same(part(large), params[1])
    for key in ("exp_avg", "exp_avg_sq"):
        of_large, of_small = (o.state[p][key] for o, p in zip(optimizers, params, strict=True))
        same(part(of_large), of_small)


@each
def test_a_checkpoint_on_the_cpu_goes_on_bitwise(name: str) -> None:
    first, file = Run(name, FEW, 4).take(0, 2), io.BytesIO()
    torch.save({"params": first.params, "optimizer": first.optimizer.state_dict()}, file)
    loaded = torch.load(io.BytesIO(file.getvalue()), map_location="cpu")
    second = Run(name, FEW, 4)
    for p, w in zip(second.params, loaded["params"], strict=True):
        p.copy_(w)
    second.optimizer.load_state_dict(loaded["optimizer"])
    assert_all_same(second.take(2).outcome(), Run(name, FEW, 4).take().outcome())


@each
def test_a_run_on_the_cpu_goes_on_on_the_gpu(name: str) -> None:
    first = Run(name, FEW, 4, devices=[torch.device("cpu")]).take(0, 2)
    second = Run(name, FEW, 4)
    for p, w in zip(second.params, first.params, strict=True):
        p.copy_(w)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.take(2).assert_close()


@only_on_gpu
@each
def test_a_model_may_move_before_the_first_step_only(name: str) -> None:
    before, after = (Run(name, FEW, 3, devices=[torch.device("cpu")]) for _ in range(2))
    after.take()
    for p in before.params + after.params:
        p.grad, p.data = None, p.data.to(DEVICE)  # what model.to() does
    before.take().assert_close()
    after.set_grads(after.grads[0])
    kept = snapshot(after.optimizer)
    with pytest.raises(RuntimeError, match="move the model before making the optimizer"):
        after.optimizer.step()
    assert_unchanged(after.optimizer, kept)
