"""The CUDA kernels, run on the CPU by tests/simt under sanitizers, against the oracle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import ALL, IDS, OPTIMIZERS, typical
from layouts import LAYOUTS
from oracles.tolerance import assert_close_to_oracle, assert_same
from simt import build
from simt.case import Case
from stepping import make, random, random_grads, set_grad
from torch import Tensor

CUDA = Path(__file__).parent.parent / "csrc" / "cuda"
# The kernels for these dtypes of weight and gradient, as setup.py compiles them.
KERNELS = {
    (torch.float32, torch.float32): ("kFloat32Kernels", "float", "float"),
    (torch.float64, torch.float64): ("kFloat64Kernels", "double", "double"),
    (torch.float64, torch.float32): ("kFloat64Float32Kernels", "double", "float"),
    (torch.bfloat16, torch.bfloat16): ("kBFloat16Kernels", "__nv_bfloat16", "__nv_bfloat16"),
    (torch.bfloat16, torch.float32): ("kBFloat16Float32Kernels", "__nv_bfloat16", "float"),
    (torch.float16, torch.float16): ("kFloat16Kernels", "__half", "__half"),
    (torch.float16, torch.float32): ("kFloat16Float32Kernels", "__half", "float"),
}
DTYPES = list(KERNELS)
DTYPE_IDS = [f"{str(w)[6:]}-{str(g)[6:]}" for w, g in DTYPES]
# Rows around every length at which something changes: a vector, a warp, and where the tiers end,
# which policy_test.cpp asserts: at 768 and 8192 elements, 512 and 4096 for AdamG, 256 and 2048 of
# float64.
SHORT = [1, 2, 3, 4, 5, 7, 8, 9, 16, 27, 31, 32, 33, 127, 128, 129, 147, 511, 512, 513, 520]
TIERS = {
    torch.float32: [767, 768, 769, 776, 1025, 4095, 4096, 4097, 8191, 8192, 8193, 8200, 20_001],
    torch.float64: [255, 256, 257, 260, 1025, 2047, 2048, 2049, 2052, 5001, 5000],
}
Run = Callable[..., list[tuple[Tensor, dict[str, Any]]]]


def rows(dtype: torch.dtype) -> list[tuple[int, int]]:
    """Shapes of every tier, with more rows than one block has warps, and fewer. Never one: a single
    S can be a rounding worse than a lucky transcription."""
    long = TIERS[torch.float64 if dtype == torch.float64 else torch.float32]
    return [*((3 + d % 7, d) for d in SHORT), *((3 if d > 2100 else 2, d) for d in long)]


@functools.cache
def executable(flavour: str, folder: Path) -> build.Executable:
    isa = "-DSPHERE_ISA=gpu"
    sources: list[build.Source] = [(CUDA / f"{name}.cu", [isa]) for name in ("begin", "steps")]
    for table, w, g in KERNELS.values():
        own = [isa, f"-DSPHERE_KERNELS={table}", f"-DSPHERE_W={w}", f"-DSPHERE_G={g}"]
        sources.append((CUDA / "step.cu", own))
    sources.append((Path(__file__).parent / "simt" / "run.cpp", [isa]))
    return build.compile(sources, folder / flavour, flavour)


@pytest.fixture(scope="session")
def simt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simt")


@pytest.fixture
def run_in(simt_folder: Path, tmp_path: Path) -> Run:
    """Runs a Case in a flavour; returns the parameters and states it ends with."""

    def run(
        case: Case, flavour: str = "asan", order: str = "forward"
    ) -> list[tuple[Tensor, dict[str, Any]]]:
        if reason := build.unavailable(flavour):
            pytest.skip(f"the kernels cannot run on the host: {reason}")
        given, result = tmp_path / "case", tmp_path / "result"
        given.write_bytes(case.content)
        done = executable(flavour, simt_folder).run(str(given), str(result), order=order)
        assert done.returncode == 0, done.stderr[-4000:]
        return case.results(result)

    return run


def start_and_grads(
    shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, grad_dtype: torch.dtype, steps: int
) -> tuple[list[Tensor], list[list[Tensor]]]:
    start = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]
    of_param = [random_grads(s, steps, grad_dtype, seed=100 * i) for i, s in enumerate(shapes)]
    return start, of_param


def case_of(
    name: str, start: list[Tensor], of_param: list[list[Tensor]], hyper: dict[str, Any], **how: Any
) -> Case:
    params = [w.clone() for w in start]
    for p, grads in zip(params, of_param, strict=True):
        set_grad(p, grads[0])
    optimizer = make(name, params, "reference", **hyper)
    return Case(optimizer, list(zip(*of_param, strict=True)), **how)


def assert_all_same(
    actual: list[tuple[Tensor, dict[str, Any]]], expected: list[tuple[Tensor, dict[str, Any]]]
) -> None:
    for (p, state), (q, other) in zip(actual, expected, strict=True):
        assert_same(p, q, str(tuple(p.shape)))
        for key in state:
            assert_same(state[key], other[key], f"{key} of {tuple(p.shape)}")


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize(("name", "case", "hyper"), ALL, ids=IDS)
def test_every_tier_and_case(
    name: str,
    case: str,
    hyper: dict[str, Any],
    dtype: torch.dtype,
    grad_dtype: torch.dtype,
    run_in: Run,
) -> None:
    shapes = [*rows(dtype), (3001,), ()]
    start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
    results = run_in(case_of(name, start, of_param, hyper))
    for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
        assert_close_to_oracle(name, w0, grads, p, state, **hyper)


# Columns in every way of not filling a strip, a walk of the warps, and both.
COLUMNS = [((11, 9), (1,)), ((8, 32), (1,)), ((70, 33), (1,)), ((200, 65), (1,))]
COLUMNS += [((3, 50, 40), (0, 2)), ((2, 7, 3), (2,)), ((1, 9, 2), (1, 2)), ((4, 3, 64), (0, 2))]


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_columns(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run) -> None:
    for channel_dims in {dims for _, dims in COLUMNS}:
        shapes = [shape for shape, dims in COLUMNS if dims == channel_dims]
        hyper = {**typical(name), "channel_dims": channel_dims}
        start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
        results = run_in(case_of(name, start, of_param, hyper))
        for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
            assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layouts(name: str, run_in: Run) -> None:
    layouts = [layout for layout in LAYOUTS if layout.blocks]
    groups = {layout.channel_dims for layout in layouts}
    for channel_dims in groups:
        members = [x for x in layouts if x.channel_dims == channel_dims and 0 not in x.shape]
        hyper = {**typical(name), "channel_dims": channel_dims}
        start, of_param = start_and_grads(
            [x.shape for x in members], torch.float32, torch.float32, steps=2
        )
        start = [x.make(w) for x, w in zip(members, start, strict=True)]
        of_param = [[x.make(g) for g in grads] for x, grads in zip(members, of_param, strict=True)]
        results = run_in(case_of(name, start, of_param, hyper))
        for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
            assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_segments_of_a_million(name: str, run_in: Run) -> None:
    for shape, channel_dims in [
        ((2, 1_000_003), (0,)),
        ((2, 1_000_000), (0,)),
        ((70_001, 5), (1,)),
    ]:
        hyper = {**typical(name), "channel_dims": channel_dims}
        (w0,), (grads,) = start_and_grads([shape], torch.float32, torch.float32, steps=1)
        ((p, state),) = run_in(case_of(name, [w0], [grads], hyper))
        assert_close_to_oracle(name, w0, grads, p, state, **hyper)


def everything(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, **how: Any) -> Case:
    """Every tier but columns, in one launch each of at most three blocks, which take turns."""
    start, of_param = start_and_grads([*rows(dtype), (3001,), ()], dtype, grad_dtype, steps=2)
    return case_of(name, start, of_param, typical(name), most_blocks=3, **how)


def strips(name: str) -> Case:
    start, of_param = start_and_grads([(70, 133), (9, 64)], torch.float32, torch.float32, steps=2)
    hyper = {**typical(name), "channel_dims": (1,)}
    return case_of(name, start, of_param, hyper, most_blocks=2)


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_order_of_threads_changes_nothing(
    name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run
) -> None:
    case = everything(name, dtype, grad_dtype)
    expected = run_in(case)
    for order in ("reverse", "seeded"):
        assert_all_same(run_in(case, order=order), expected)


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_races(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run) -> None:
    case = everything(name, dtype, grad_dtype)
    assert_all_same(run_in(case, "tsan"), run_in(case))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_columns_in_any_order_and_without_races(name: str, run_in: Run) -> None:
    expected = run_in(strips(name))
    for order in ("reverse", "seeded"):
        assert_all_same(run_in(strips(name), order=order), expected)
    assert_all_same(run_in(strips(name), "tsan"), expected)


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
def test_the_address_changes_nothing(
    dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run
) -> None:
    of_w, of_g = dtype.itemsize, grad_dtype.itemsize
    of_m = max(of_w, 4)
    expected = run_in(everything("AdamSRT", dtype, grad_dtype))
    for offsets in [(of_w, 0, 0), (0, of_g, 0), (0, 0, of_m), (of_w, 3 * of_g, 2 * of_m)]:
        moved = everything("AdamSRT", dtype, grad_dtype, offsets=offsets)
        assert_all_same(run_in(moved), expected)


@pytest.mark.parametrize("name", ["AdamST", "AdamSRT", "SGDMRT"])
@pytest.mark.parametrize("channel_dims", [(0,), (1,)], ids=["rows", "columns"])
def test_where_the_closed_form_cancels(
    name: str, channel_dims: tuple[int, ...], run_in: Run
) -> None:
    """Every third segment lands at a thousandth of where it was: its products must be measured,
    and the others, which sum along, be left alone."""
    inside = 1 if channel_dims == (0,) else 0
    # The square roots of the lengths and lr are exact, or their rounding would be enlarged alike in
    # all segments, and luck decide.
    by_rows = [(70, 9), (60, 576), (45, 2500), (45, 9025)]
    start, grads = [], []
    for i, shape in enumerate(by_rows if inside else [(64, 137), (9, 64)]):
        g = random(*shape, seed=i)
        radial = torch.arange(shape[1 - inside]) % 3 == 0
        left = 1e-3 * (1 + torch.rand(len(radial), generator=torch.Generator().manual_seed(i)))
        radial, left = radial.unsqueeze(inside), left.unsqueeze(inside)
        # AdamS's first step has the length sqrt(D), whatever g is; SGDMRT's is g.
        w = (1 + left) * g
        if name != "SGDMRT":
            w = w / g.norm(dim=inside, keepdim=True) * shape[inside] ** 0.5
        start.append(w)
        grads.append([torch.where(radial, g, random(*shape, seed=50 + i))])
    hyper: dict[str, Any] = {"lr": 1.0, "channel_dims": channel_dims}
    if name == "SGDMRT":
        hyper["momentum"] = 0.9
    results = run_in(case_of(name, start, grads, hyper))
    for w0, of_param, (p, state) in zip(start, grads, results, strict=True):
        landed = p.norm(dim=inside) / w0.norm(dim=inside)
        assert float((landed < 3e-3).float().mean()) > 0.3
        assert_close_to_oracle(name, w0, of_param, p, state, **hyper)


@pytest.mark.parametrize("channel_dims", [(0,), (1,)], ids=["rows", "columns"])
def test_where_a_gradient_is_nearly_radial(channel_dims: tuple[int, ...], run_in: Run) -> None:
    """AdamG drops the radial part, and what is left must be measured; not in every segment."""
    inside = 1 if channel_dims == (0,) else 0
    start, grads = [], []
    for i, shape in enumerate(
        [(70, 9), (60, 576), (45, 2500), (45, 9025)] if inside else [(64, 137)]
    ):
        w = random(*shape, seed=i)
        w = w / w.norm(dim=inside, keepdim=True)
        radial = (torch.arange(shape[1 - inside]) % 3 == 0).unsqueeze(inside)
        g = random(*shape, seed=50 + i)
        start.append(w)
        grads.append([torch.where(radial, 300 * w + g / g.norm(dim=inside, keepdim=True), g)] * 2)
    hyper = {"lr": 0.1, "channel_dims": channel_dims}
    results = run_in(case_of("AdamG", start, grads, hyper))
    for w0, of_param, (p, state) in zip(start, grads, results, strict=True):
        assert_close_to_oracle("AdamG", w0, of_param, p, state, **hyper)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nan_stays_in_its_segment(name: str, run_in: Run) -> None:
    shapes = [(9, 27), (9, 700), (5, 900), (3, 9000), (33,)]
    start, clean = start_and_grads(shapes, torch.float32, torch.float32, steps=2)
    dirty = [[grads[0].clone(), grads[1]] for grads in clean]
    for grads in dirty:
        grads[0][1] = torch.nan
    expected = run_in(case_of(name, start, clean, typical(name)))
    results = run_in(case_of(name, start, dirty, typical(name)))
    for (p, state), (q, other) in zip(results, expected, strict=True):
        others = [i for i in range(len(p)) if i != 1]
        assert_same(p[others], q[others])
        assert bool(p[1].isnan().all())
        for key in set(state) - {"step"}:
            assert_same(state[key][others], other[key][others], key)


@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_many_parameters_groups_and_changes(flavour: str, run_in: Run) -> None:
    """More new gradients and groups than one launch takes by value, others at every step, and
    parameters that have no gradient in some."""
    count, steps, members = 1300, 3, 4
    shapes = [(1 + i % 3, 1 + i % 5) for i in range(count)]
    start, of_param = start_and_grads(shapes, torch.float32, torch.float32, steps)
    for i, grads in enumerate(of_param):
        if i % 7 == 0:
            grads[1] = None
        if i % 11 == 0:
            grads[2] = None
    params = [w.clone() for w in start]
    groups = [
        {"params": params[i : i + members], "lr": 1e-3 * (1 + i % 10)}
        for i in range(0, count, members)
    ]
    optimizer = make("AdamSRT", groups, "reference")
    by_step = []
    for t in range(steps):
        by_step.append(
            [optimizer.hyper(g)._replace(lr=g["lr"] * (t + 1)) for g in optimizer.param_groups]
        )
    results = run_in(Case(optimizer, list(zip(*of_param, strict=True)), by_step), flavour)
    for i, (p, state) in enumerate(results):
        taken = [t for t in range(steps) if of_param[i][t] is not None]
        assert float(state["step"]) == len(taken)
        if i % 97 == 0:
            w = start[i].clone()
            one = make("AdamSRT", [w], "reference", lr=1.0)
            for t in taken:
                one.param_groups[0]["lr"] = groups[i // members]["lr"] * (t + 1)
                w.grad = of_param[i][t]
                one.step()
            torch.testing.assert_close(p, w, rtol=1e-6, atol=1e-7)
