"""The CUDA kernels, run on the CPU by tests/simt under sanitizers, against the oracle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import ALL, CASES, typical
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
# Elements of 4, 8 and 2 bytes, the last with other gradients: what threads do to each other depends
# on nothing else of them, and neither does what is undefined.
LENGTHS_OF_ELEMENTS = [0, 1, 4]
# One of each direction, in whose kernels all others are the same but for the rule.
DIRECTIONS = ["AdamSRT", "AdamG", "RotationalAdamW", "RotationalSGDM", "RotationalLion"]
CORE = ["AdamS", "AdamST", "AdamSRT", "AdamG", "SGDMRT"]
# Of the wider family, of which the CPU kernels have all, what the kernels here differ in.
TRIED = ["typical", "nesterov", "no-eps", "no-decay", "tangent"]
SOME = [(name, case, hyper) for name, case, hyper in ALL if name in CORE or case in TRIED]
# Rows around every length at which something changes, which policy_test.cpp asserts: a vector;
# tiles to 32; from 8 to 256 threads per row, which hold 32 elements each where the direction is the
# moment, else 16, or 8 of float64. Then clusters.
SHORT = [1, 2, 3, 4, 5, 7, 8, 9, 16, 27, 31, 32, 33, 36, 49, 63, 64, 65, 127, 128, 129, 147]
SHORT += [255, 256, 257, 264, 511, 512, 513, 520]
TIERS = {
    torch.float32: [1023, 1024, 1025, 1032, 2047, 2048, 2049, 4095, 4096, 4097, 4104, 8191, 8192],
    torch.float64: [1023, 1024, 1025, 1028, 2047, 2048],
}
CLUSTERS = {torch.float32: [4097, 4104, 8193, 8200, 16_385, 32_776], torch.float64: [2049, 4097]}
CLUSTERS[torch.float64] += [8196]
# In pieces of 4096, or of 2048: by compute capability 8.0 from where clusters would begin.
LONG = {torch.float32: [8193, 8200, 12_288, 20_001], torch.float64: [2049, 4100, 6144, 9001]}
Run = Callable[..., list[tuple[Tensor, dict[str, Any]]]]


def of(table: dict[torch.dtype, list[int]], dtype: torch.dtype) -> list[int]:
    return table[torch.float64 if dtype == torch.float64 else torch.float32]


def rows(dtype: torch.dtype) -> list[tuple[int, int]]:
    """Shapes of rows that one block steps, with more rows than a block takes at once, and fewer.
    Never one: a single S can be a rounding worse than a lucky transcription."""
    short = [(3 + d % 7 + (300 if d in (9, 33) else 0), d) for d in SHORT]
    return short + [(3 if d > 2100 else 2, d) for d in of(TIERS, dtype)]


@functools.cache
def executable(flavour: str, folder: Path) -> build.Executable:
    isa = "-DSPHERE_ISA=gpu"
    sources: list[build.Source] = [(CUDA / f"{name}.cu", [isa]) for name in ("begin", "steps")]
    for i, (table, w, g) in enumerate(KERNELS.values()):
        own = [isa, f"-DSPHERE_KERNELS={table}", f"-DSPHERE_W={w}", f"-DSPHERE_G={g}"]
        if i not in LENGTHS_OF_ELEMENTS:
            own.append("-fno-sanitize=undefined")  # half of the time to compile
        sources.append((CUDA / "step.cu", own))
    sources.append((Path(__file__).parent / "simt" / "run.cpp", [isa]))
    return build.compile_once(sources, folder / f"kernels_{flavour}", flavour)


@pytest.fixture
def run_in(shared_folder: Path, tmp_path: Path) -> Run:
    """Runs a Case in a flavour; returns the parameters and states it ends with."""

    def run(
        case: Case, flavour: str = "asan", **settings: Any
    ) -> list[tuple[Tensor, dict[str, Any]]]:
        if reason := build.unavailable(flavour):
            pytest.skip(f"the kernels cannot run on the host: {reason}")
        given, result = tmp_path / "case", tmp_path / "result"
        given.write_bytes(case.content)
        done = executable(flavour, shared_folder).run(str(given), str(result), **settings)
        assert done.returncode == 0, done.stderr[:6000]
        return case.results(result)

    return run


def start_and_grads(
    shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, grad_dtype: torch.dtype, steps: int
) -> tuple[list[Tensor], list[list[Tensor]]]:
    start = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]
    of_param = [random_grads(s, steps, grad_dtype, seed=100 * i) for i, s in enumerate(shapes)]
    return start, of_param


def case_of(
    name: str,
    start: list[Tensor],
    of_param: Sequence[Sequence[Tensor | None]],
    hyper: dict[str, Any],
    **how: Any,
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


def check_every_tier(
    name: str,
    hyper: dict[str, Any],
    dtype: torch.dtype,
    grad_dtype: torch.dtype,
    run_in: Run,
) -> None:
    shapes = [*rows(dtype), (3001,), ()]
    if name.startswith("Rotational") and hyper.get("zero_mean", True):
        shapes = [s for s in shapes if s[1:] != (2,)]  # which have nowhere to turn to
    start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
    results = run_in(case_of(name, start, of_param, hyper))
    for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
        assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize(("name", "case", "hyper"), SOME, ids=[f"{n}-{c}" for n, c, _ in SOME])
def test_every_tier_and_case(name: str, case: str, hyper: dict[str, Any], run_in: Run) -> None:
    check_every_tier(name, hyper, *DTYPES[0], run_in)


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES[1:], ids=DTYPE_IDS[1:])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_every_tier_and_dtype(
    name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run
) -> None:
    """The cases differ in what the CPU kernels share, which have all of them in every dtype."""
    check_every_tier(name, typical(name), dtype, grad_dtype, run_in)


# Columns in every way of not filling a strip, a walk of the warps, and both.
COLUMNS = [((11, 9), (1,)), ((8, 32), (1,)), ((70, 33), (1,)), ((200, 65), (1,))]
COLUMNS += [((600, 33), (1,)), ((257, 70), (1,)), ((2, 300, 33), (0, 2))]
COLUMNS += [((3, 50, 40), (0, 2)), ((2, 7, 3), (2,)), ((1, 9, 2), (1, 2)), ((4, 3, 64), (0, 2))]


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_columns(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run) -> None:
    for channel_dims in {dims for _, dims in COLUMNS}:
        shapes = [shape for shape, dims in COLUMNS if dims == channel_dims]
        hyper = {**typical(name), "channel_dims": channel_dims}
        start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
        results = run_in(case_of(name, start, of_param, hyper))
        for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
            assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_layouts(name: str, run_in: Run) -> None:
    layouts = [layout for layout in LAYOUTS if layout.blocks]
    groups = {layout.channel_dims for layout in layouts}
    for channel_dims in groups:
        members = [x for x in layouts if x.channel_dims == channel_dims and 0 not in x.shape]
        hyper = {**typical(name), "channel_dims": channel_dims}
        if name.startswith("Rotational"):
            hyper["zero_mean"] = False  # segments of two would have nowhere to turn to
        start, of_param = start_and_grads(
            [x.shape for x in members], torch.float32, torch.float32, steps=2
        )
        start = [x.make(w) for x, w in zip(members, start, strict=True)]
        of_param = [[x.make(g) for g in grads] for x, grads in zip(members, of_param, strict=True)]
        results = run_in(case_of(name, start, of_param, hyper))
        for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
            assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_segments_of_a_million(name: str, run_in: Run) -> None:
    for shape, channel_dims in [
        ((2, 1_000_003), (0,)),
        ((2, 1_000_000), (0,)),
        ((70_001, 5), (1,)),
    ]:
        hyper = {**typical(name), "channel_dims": channel_dims}
        (w0,), (grads,) = start_and_grads([shape], torch.float32, torch.float32, steps=1)
        ((p, state),) = run_in(case_of(name, [w0], [grads], hyper), blocks=3)
        assert_close_to_oracle(name, w0, grads, p, state, **hyper)


def assert_close(name: str, shapes: list[tuple[int, int]], dtype: torch.dtype, **how: Any) -> None:
    run, grad_dtype, settings = how.pop("run"), how.pop("grad_dtype"), how
    start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
    results = run(case_of(name, start, of_param, typical(name)), **settings)
    for w0, grads, (p, state) in zip(start, of_param, results, strict=True):
        assert_close_to_oracle(name, w0, grads, p, state, **typical(name))


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_clusters(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run) -> None:
    shapes = [(3, d) for d in of(CLUSTERS, dtype)]
    assert_close(name, shapes, dtype, grad_dtype=grad_dtype, run=run_in)


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=DTYPE_IDS)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_long_rows(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run) -> None:
    shapes = [(3, d) for d in of(LONG, dtype)]
    how = {"grad_dtype": grad_dtype, "run": run_in, "capability": "8"}
    assert_close(name, shapes, dtype, processors="1", blocks=3, **how)


def everything(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, **how: Any) -> Case:
    """Every tier but columns, in one launch each of at most three blocks, which take turns."""
    shapes = [*rows(dtype), *((2, d) for d in of(CLUSTERS, dtype)[-3:-1]), (3001,), ()]
    start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
    return case_of(name, start, of_param, typical(name), most_blocks=3, **how)


def shared_by_blocks(name: str, dtype: torch.dtype, grad_dtype: torch.dtype) -> Case:
    """What blocks work on together, if clusters are not to be had."""
    shapes = [(3, d) for d in of(LONG, dtype)]
    start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
    return case_of(name, start, of_param, typical(name))


def strips(name: str) -> Case:
    """Columns that a block reads twice, and longer ones, in pieces."""
    shapes = [(70, 133), (9, 64), (600, 70), (257, 33)]
    start, of_param = start_and_grads(shapes, torch.float32, torch.float32, steps=2)
    hyper = {**typical(name), "channel_dims": (1,)}
    return case_of(name, start, of_param, hyper)


# In float32 alone those that store moments earlier or later than these.
EACH_LENGTH = [
    *((name, i) for name in ("AdamSRT", "AdamG") for i in LENGTHS_OF_ELEMENTS),
    *((name, 0) for name in ("RotationalAdamW", "RotationalSGDM")),
]
each_length = pytest.mark.parametrize(
    ("name", "dtype", "grad_dtype"),
    [(name, *DTYPES[i]) for name, i in EACH_LENGTH],
    ids=[f"{name}-{DTYPE_IDS[i]}" for name, i in EACH_LENGTH],
)
ANY_ORDER = [{"order": "reverse"}, {"order": "seeded"}, {"order": "seeded", "seed": 7}]


@each_length
def test_the_order_of_threads_changes_nothing(
    name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run
) -> None:
    case = everything(name, dtype, grad_dtype)
    expected = run_in(case)
    for order in ANY_ORDER[:2]:
        assert_all_same(run_in(case, **order), expected)


@each_length
def test_no_races(name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run) -> None:
    case = everything(name, dtype, grad_dtype)
    assert_all_same(run_in(case, "tsan"), run_in(case))


@each_length
def test_long_rows_at_many_blocks_in_any_order_and_without_races(
    name: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run
) -> None:
    case = shared_by_blocks(name, dtype, grad_dtype)
    expected = run_in(case, capability="8")
    for order in ANY_ORDER:
        assert_all_same(run_in(case, capability="8", processors="2", blocks=4, **order), expected)
    for processors in ("1", "2"):
        how = {"capability": "8", "processors": processors, "blocks": 3}
        assert_all_same(run_in(case, "tsan", **how), expected)


@pytest.mark.parametrize("name", DIRECTIONS[:-1])
def test_columns_in_any_order_and_without_races(name: str, run_in: Run) -> None:
    expected = run_in(strips(name))
    for order in ANY_ORDER:
        assert_all_same(run_in(strips(name), processors="1", blocks=3, **order), expected)
    assert_all_same(run_in(strips(name), "tsan", processors="1", blocks=3), expected)


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


# The square roots of the lengths and lr are exact, or their rounding would be enlarged alike in all
# segments, and luck decide.
CANCELLING = {
    (0,): [(70, 9), (60, 144), (60, 576), (45, 2500), (45, 9025), (6, 73_984)],
    (1,): [(64, 137), (9, 64), (576, 40)],
}


def cancelling(
    name: str, shapes: list[tuple[int, int]], channel_dims: tuple[int, ...]
) -> tuple[list[Tensor], list[list[Tensor]], dict[str, Any]]:
    """Every third segment lands at a thousandth of where it was: its products must be measured,
    and the others, which sum along, be left alone."""
    inside = 1 if channel_dims == (0,) else 0
    start, grads = [], []
    for i, shape in enumerate(shapes):
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
    return start, grads, hyper


@pytest.mark.parametrize("name", ["AdamST", "AdamSRT", "SGDMRT"])
@pytest.mark.parametrize("channel_dims", [(0,), (1,)], ids=["rows", "columns"])
def test_where_the_closed_form_cancels(
    name: str, channel_dims: tuple[int, ...], run_in: Run
) -> None:
    start, grads, hyper = cancelling(name, CANCELLING[channel_dims], channel_dims)
    results = run_in(case_of(name, start, grads, hyper))
    inside = 1 if channel_dims == (0,) else 0
    for w0, of_param, (p, state) in zip(start, grads, results, strict=True):
        landed = p.norm(dim=inside) / w0.norm(dim=inside)
        assert float((landed < 3e-3).float().mean()) > 0.3
        assert_close_to_oracle(name, w0, of_param, p, state, **hyper)


@pytest.mark.parametrize("channel_dims", [(0,), (1,)], ids=["rows", "columns"])
@pytest.mark.parametrize("name", ["NormAdamW", "RotationalSGDM"])
def test_where_a_direction_or_its_end_cancels(
    name: str, channel_dims: tuple[int, ...], run_in: Run
) -> None:
    """Every third segment lands next to 0, or its direction is a constant and the weight, which
    rotation leaves nothing of."""
    inside = 1 if channel_dims == (0,) else 0
    hyper: dict[str, Any] = {"channel_dims": channel_dims, **typical(name), "lr": 0.5}
    start, grads = [], []
    for i, shape in enumerate(CANCELLING[channel_dims]):
        g, other = random(*shape, seed=i), random(*shape, seed=50 + i)
        chosen = (torch.arange(shape[1 - inside]) % 3 == 0).unsqueeze(inside)
        w = random(*shape, seed=100 + i)
        if name == "NormAdamW":  # whose first step has lr in every element
            w = torch.where(chosen, 0.5 * g.sign() + 1e-3 * w, w)
        else:
            g = 3 + 2 * w + 1e-3 * g
        start.append(w)
        grads.append([torch.where(chosen, g, other)])
    results = run_in(case_of(name, start, grads, hyper))
    for w0, of_param, (p, state) in zip(start, grads, results, strict=True):
        assert_close_to_oracle(name, w0, of_param, p, state, **hyper)


SURVEYED = [
    (name, case)
    for name in ("AdamP", "SGDP")
    for case in ("every-filter", "some-filters", "nothing")
]


def surveyed(
    shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, grad_dtype: torch.dtype
) -> tuple[list[Tensor], list[list[Tensor | None]]]:
    """The last two in columns; the second has no gradient in the second step."""
    start, of_param = start_and_grads(shapes, dtype, grad_dtype, steps=2)
    grads: list[list[Tensor | None]] = [list(g) for g in of_param]
    grads[1][1] = None
    for i in (-1, -2):
        start[i] = start[i].t().contiguous().t()
        grads[i] = [g.t().contiguous().t() for g in of_param[i]]
    return start, grads


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES[:5:2], ids=DTYPE_IDS[:5:2])
@pytest.mark.parametrize(("name", "case"), SURVEYED, ids=[f"{n}-{c}" for n, c in SURVEYED])
def test_surveys(
    name: str, case: str, dtype: torch.dtype, grad_dtype: torch.dtype, run_in: Run
) -> None:
    """In fewer units than a block has threads, and in more."""
    shapes = [(7, 5), (5, 33), (300, 9), (40, 256), (3, 8200), (33,), (40, 70), (65, 300)]
    if name == "AdamP" and case == "some-filters":
        shapes.insert(0, (9000, 128))
    start, of_param = surveyed(shapes, dtype, grad_dtype)
    given = case_of(name, start, of_param, CASES[name][case])
    for w0, grads, (p, state) in zip(start, of_param, run_in(given, blocks=3), strict=True):
        assert_close_to_oracle(name, w0, grads, p, state, **CASES[name][case])


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_surveys_in_any_order_and_without_races(name: str, run_in: Run) -> None:
    shapes = [(300, 9), (5, 33), (2, 8200), (20, 70), (65, 30)]
    start, of_param = surveyed(shapes, torch.float32, torch.float32)
    given = case_of(name, start, of_param, CASES[name]["some-filters"])
    expected = run_in(given)
    for order in ANY_ORDER:
        assert_all_same(run_in(given, blocks=3, **order), expected)
    assert_all_same(run_in(given, "tsan", blocks=3), expected)


@pytest.mark.parametrize("name", ["AdamSRT", "AdamG"])
def test_groups_that_measure_beside_groups_that_do_not(name: str, run_in: Run) -> None:
    """Rows of 64, 128 and 256 threads, and more than blocks: some are a sum ahead of others."""
    shapes = [(24, 1089), (12, 2500), (6, 4225)]
    start, grads, hyper = cancelling("AdamSRT", shapes, (0,))
    case = case_of(name, start, grads, hyper, most_blocks=2)
    expected = run_in(case)
    for order in ANY_ORDER:
        assert_all_same(run_in(case, **order), expected)
        assert_all_same(run_in(case, "tsan", **order), expected)


@pytest.mark.parametrize("channel_dims", [(0,), (1,)], ids=["rows", "columns"])
def test_where_a_gradient_is_nearly_radial(channel_dims: tuple[int, ...], run_in: Run) -> None:
    """AdamG drops the radial part, and what is left must be measured; not in every segment."""
    inside = 1 if channel_dims == (0,) else 0
    start, grads = [], []
    for i, shape in enumerate(
        [(70, 9), (60, 144), (60, 576), (45, 2500), (45, 9025), (6, 73_984)]
        if inside
        else [(64, 137), (576, 40)]
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


@pytest.mark.parametrize("name", DIRECTIONS[:-1])  # the sign of NaN is 0
def test_nan_stays_in_its_segment(name: str, run_in: Run) -> None:
    shapes = [(9, 27), (9, 100), (9, 700), (5, 2900), (3, 9000), (3, 70_000), (33,)]
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


@pytest.mark.parametrize("flavour", build.FLAVOURS)
@pytest.mark.parametrize("lr_dtype", [torch.float32, torch.float64], ids=str)
def test_a_captured_step_brings_everything_with_it(
    flavour: str, lr_dtype: torch.dtype, run_in: Run
) -> None:
    """Steps, a capture, replays with other gradients and numbers at the same addresses, and steps
    between them with other addresses: the same as steps alone. Some are skipped by found_inf."""
    shapes = [(5, 9), (3, 40), (7,), (2, 8200), (2, 70_000)]
    modes = ["step", "capture", "replay", "step", "replay", "replay", "step"]
    start, of_param = start_and_grads(shapes, torch.float32, torch.float32, len(modes))
    for grads in of_param[:2]:
        grads[3] = None  # a step between replays that has no gradient here
    optimizer = make("AdamSRT", [{"params": [w.clone()]} for w in start], "reference")
    for p, grads in zip(start, of_param, strict=True):
        set_grad(p, grads[0])
    hypers = []
    for t in range(len(modes)):
        # A step's own lr, scale and found_inf; the weight decay stays, as a graph has it inside.
        now = {"lr": 0.5**t, "grad_scale": 2.0 ** (t % 3), "found_inf": float(t in (2, 6))}
        hypers.append([optimizer.hyper(g)._replace(**now) for g in optimizer.param_groups])
    by_step = list(zip(*of_param, strict=True))
    expected = run_in(Case(optimizer, by_step, hypers), flavour)
    replayed = run_in(Case(optimizer, by_step, hypers, modes=modes, lr_dtype=lr_dtype), flavour)
    assert_all_same(replayed, expected)
    taken = [5 - (i < 2) for i in range(len(shapes))]
    assert [int(state["step"]) for _, state in expected] == taken
