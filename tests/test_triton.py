"""The Triton backend in Triton's interpreter: every shape a program may hold, and the host's side.

What is compiled is looked at in test_triton_compiled.py. Tests marked `interpreted` in other files
run on this backend as well.
"""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import ALL, IDS, REPRESENTATIVES, known, moment_of, over, typical
from layouts import LAYOUTS, contiguous, permuted
from oracles import DEFAULTS
from oracles.tolerance import assert_close_to_oracle
from stepping import assert_unchanged, make, random, random_grads, snapshot, take_steps
from test_adamg import check_nearly_radial_gradients
from test_facts import LEFT
from test_oracle import DTYPES, MODEL
from test_state import DISTURBANCES, assert_ends_alike, half_way, undisturbed

from sphere_fused.backends import triton

if not triton.interpreted():
    pytest.skip("on a GPU, test_cuda.py runs these kernels", allow_module_level=True)
if triton.installed():
    pytest.skip(triton.installed(), allow_module_level=True)

from sphere_fused.backends.triton import launch, shapes, steps
from sphere_fused.backends.triton.shapes import PART, SIZES, pieces_of, shape_of

# Lengths of rows on both sides of every size in the tables: with loads of 16 bytes, and without.
LENGTHS = [2, 3, 4, 5, 8, 16, 17, 64, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2048, 2052, 2053]

# Every direction in float32; the other arithmetic, and the other width of loads, for one.
RULES_AND_DTYPES = [(name, torch.float32) for name in REPRESENTATIVES]
RULES_AND_DTYPES += [("AdamSRT", torch.float64), ("AdamSRT", torch.bfloat16)]
# And for those that hold and sum differently, which is what the shapes of rows depend on.
HOLDING = [("AdamG", torch.float64), ("RotationalAdamW", torch.float64)]


def step_all(
    name: str, start: list[torch.Tensor], steps: int, grad_dtype: torch.dtype, **hyper: Any
) -> None:
    """Step tensors in one plan, and compare each with the oracle."""
    grads = [random_grads(w.shape, steps, grad_dtype, seed=100 * i) for i, w in enumerate(start)]
    params = [w.clone() for w in start]
    optimizer = make(name, params, "triton", **hyper)
    take_steps(optimizer, params, list(zip(*grads, strict=True)))
    for w0, of_param, p in zip(start, grads, params, strict=True):
        assert_close_to_oracle(name, w0, of_param, p, optimizer.state[p], **hyper)


@pytest.mark.parametrize(("name", "case", "hyper"), ALL, ids=IDS)
def test_cases(name: str, case: str, hyper: dict[str, Any]) -> None:
    shapes_of = MODEL if case == "typical" else [(6, 5, 3, 3), (33,)]
    start = [random(*shape, seed=i) for i, shape in enumerate(shapes_of)]
    # Powers of beta are by squaring: the third is the first that multiplies two of them.
    step_all(name, start, 3, torch.float32, **hyper)


@pytest.mark.parametrize(("dtype", "grad_dtype"), DTYPES, ids=str)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_dtypes(name: str, dtype: torch.dtype, grad_dtype: torch.dtype) -> None:
    start = [random(*shape, seed=i, dtype=dtype) for i, shape in enumerate(MODEL)]
    step_all(name, start, 2, grad_dtype, **typical(name))


@pytest.mark.parametrize(("name", "dtype"), RULES_AND_DTYPES + HOLDING, ids=str)
def test_lengths_of_rows(name: str, dtype: torch.dtype) -> None:
    # Two elements of mean 0 cannot turn: what is left of a direction is rounding.
    lengths = LENGTHS[1:] if known(name, zero_mean=True) else LENGTHS
    # Never one: a single S can be a rounding worse than a lucky transcription.
    start = [random(3 if n <= 1024 else 2, n, seed=n, dtype=dtype) for n in lengths]
    step_all(name, start, 2, dtype, **typical(name))


@pytest.mark.parametrize("name", ["AdamSRT", "AdamG", "RotationalAdamW", "RotationalLion", "AdamH"])
def test_columns(name: str) -> None:
    # Few and many, short and long, in one block and in several.
    lengths = [(3, 3), (9, 5), (31, 40), (32, 64), (33, 33), (100, 12), (300, 7)]
    start = [random(*shape, seed=i) for i, shape in enumerate(lengths)]
    step_all(name, start, 2, torch.float32, **over(name, (1,)))
    across = [random(3, n, m, seed=n) for n, m in ((3, 5), (20, 33))]
    step_all(name, across, 2, torch.float32, **over(name, (0, 2)))


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_layouts_side_by_side(name: str) -> None:
    layouts = [layout for layout in LAYOUTS if layout.blocks]
    start = [random(*a.shape, seed=i) for i, a in enumerate(layouts)]
    grads = [random_grads(a.shape, 2, seed=100 * i) for i, a in enumerate(layouts)]
    params = [a.make(w.clone()) for a, w in zip(layouts, start, strict=True)]
    # Two elements of mean 0 cannot turn: what is left of a direction is rounding.
    hypers = [
        over(name, a.channel_dims) | known(name, zero_mean=a.shape != (5, 2)) for a in layouts
    ]
    groups = [{"params": [p], **hyper} for p, hyper in zip(params, hypers, strict=True)]
    optimizer = make(name, groups, "triton", **typical(name))
    laid_out = [[a.make(g) for g in of] for a, of in zip(layouts, grads, strict=True)]
    take_steps(optimizer, params, list(zip(*laid_out, strict=True)))
    for w0, of, p, hyper in zip(start, grads, params, hypers, strict=True):
        assert_close_to_oracle(name, w0, of, p, optimizer.state[p], **hyper)


@pytest.mark.parametrize("offset", [1, 2, 4])
@pytest.mark.parametrize("whose", ["weight", "gradient", "state"])
def test_addresses_that_are_not_aligned(whose: str, offset: int) -> None:
    def shifted(t: torch.Tensor) -> torch.Tensor:
        room = t.new_zeros(t.numel() + offset)
        room[offset:] = t.flatten()
        return room[offset:].view_as(t)

    w0, grads = random(5, 64, seed=1), random_grads((5, 64), 3)
    p = shifted(w0) if whose == "weight" else w0.clone()
    optimizer = make("AdamSRT", [p], "triton")
    for t, g in enumerate(grads):
        p.grad = shifted(g) if whose == "gradient" else g
        optimizer.step()
        if whose == "state" and t == 0:
            optimizer.state[p]["exp_avg"] = shifted(optimizer.state[p]["exp_avg"])
    (run,) = optimizer._prepared.runs
    (of_device,) = run.__closure__[0].cell_contents
    (code,) = of_device._layout.launches[-1]._arguments[-1]
    # The interpreter takes no notice of what a compiler would be promised.
    assert code >> 8 & 15 == (2 if offset == 4 else 0)
    assert_close_to_oracle("AdamSRT", w0, grads, p, optimizer.state[p])


def test_every_kind_of_shape_is_among_those_tested() -> None:
    kinds = set()
    for n in LENGTHS:
        for size, vector in ((4, 4), (4, 8), (8, 2)):
            s = shape_of(False, n, 1, size, vector, "moment")
            kinds.add((size, s.vector > 1, s.held, s.rows > 1))
    for size in (4, 8):
        for wide in (True, False):
            assert {(size, wide, True, True), (size, wide, False, False)} <= kinds
            assert SIZES[size, wide].row < max(LENGTHS)


@pytest.mark.parametrize("inner", [1, 2, 40, 10**6])
@pytest.mark.parametrize("dim", [1, 2, 9, 768, 1025, 50257, 10**9])
@pytest.mark.parametrize("outer", [1, 3, 50257])
def test_pieces_cover_every_segment_once(outer: int, dim: int, inner: int) -> None:
    if dim == 1:  # as the layout has it
        outer, inner = 1, outer * inner
    for size, vector in ((4, 4), (4, 1), (8, 2), (8, 1)):
        s = shape_of(dim == 1, dim, inner, size, vector, "moment")
        pieces = pieces_of(s, outer, dim, inner)
        if s.split:
            assert dim > 2 * PART
            assert s.rows == 1 or s.across
            assert pieces % -(-dim // PART) == 0
            pieces //= -(-dim // PART)
        per_block = -(-inner // s.rows) if s.across else pieces
        covered = outer * inner if s.across else per_block * s.rows
        assert covered >= outer * inner
        assert pieces * s.rows < outer * inner + s.rows * (outer if s.across else 1)
        assert s.rows * s.cols <= 2**15, "a shape's logarithms have four bits"
        assert not s.held or s.cols >= dim
        assert (dim if inner == 1 else inner) % s.vector == 0
        assert s.code() < 2**16


def test_one_launch_for_all_tensors_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    call = launch.Launch.__call__
    monkeypatch.setattr(launch.Launch, "__call__", lambda self: (launched.append(self), call(self)))
    params = [random(*shape, seed=i) for i, shape in enumerate(MODEL)]
    optimizer = make(
        "AdamSRT", [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(params)]
    )
    for group in optimizer.param_groups:
        group["backend"] = "triton"
    take_steps(optimizer, params, [[torch.ones_like(p) for p in params]])
    assert len(launched) == 2  # the first begins the step


def test_only_asked_for_on_a_cpu(caplog: pytest.LogCaptureFixture) -> None:
    p = random(7, 9, seed=1)[:, ::2]
    optimizer = make("AdamSRT", [p])
    with caplog.at_level(logging.DEBUG, logger="sphere_fused"):
        take_steps(optimizer, [p], [[torch.ones_like(p)]])
    assert "reference steps 1 of 1" in caplog.text
    p = permuted(1, 0, 2)(random(6, 5, 7, seed=1))
    with pytest.raises(RuntimeError, match=r"triton: shape .* does not lie in memory as blocks"):
        make("AdamSRT", [p], "triton")


def test_why_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    (reason,) = triton.unavailable(torch.device("cuda"))
    assert re.fullmatch(r"torch .* finds no GPU", reason)
    (reason,) = triton.unavailable(torch.device("xpu"))
    assert "has not been tried on xpu" in reason
    monkeypatch.delenv("TRITON_INTERPRET")
    (reason,) = triton.unavailable(torch.device("cpu"))
    assert "set TRITON_INTERPRET=1" in reason


def test_without_triton_and_with_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    triton.installed.cache_clear()
    monkeypatch.setattr("triton.__version__", "3.3.1")
    assert "Triton 3.3.1 is too old: 3.4 or newer" in triton.installed()
    triton.installed.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install triton" in triton.installed()
    monkeypatch.undo()
    triton.installed.cache_clear()
    assert triton.installed() == ""


def test_nothing_changes_when_a_gradient_is_refused() -> None:
    params = [random(4, 8, seed=1), random(4, 8, seed=2)]
    optimizer = make("AdamSRT", params, "triton")
    take_steps(optimizer, params, [[torch.ones(4, 8)] * 2])
    params[1].grad = params[0]
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match="overlaps"):
        optimizer.step()
    assert_unchanged(optimizer, before)


def test_gradients_that_come_go_and_change_their_dtype() -> None:
    w0 = [random(5, 8, seed=i, dtype=torch.bfloat16) for i in range(3)]
    params = [w.clone() for w in w0]
    optimizer = make("AdamSRT", params, "triton")
    g16 = random_grads((5, 8), 4, torch.bfloat16)
    g32 = [g.float() for g in g16]
    grads = [
        [g16[0], None, g16[0]],
        [g32[1], g16[1], None],
        [None, g32[2], g16[2]],
        [g16[3], g16[3], g32[3]],
    ]
    for of_this_step in grads:
        optimizer.zero_grad()
        for p in params:
            p.grad_dtype = None  # any
        take_steps(optimizer, params, [of_this_step])
    for w, p, of_param in zip(w0, params, zip(*grads, strict=True), strict=True):
        assert_close_to_oracle("AdamSRT", w, list(of_param), p, optimizer.state[p])


@pytest.mark.parametrize(("name", "dtype"), RULES_AND_DTYPES, ids=str)
def test_segments_in_parts(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "PART", 1024)
    rows = [(2, 2049), (1, 3001), (1, 2056), (4, 64), (9,)]
    start = [random(*s, seed=i, dtype=dtype) for i, s in enumerate(rows)]
    step_all(name, start, 2, dtype, **typical(name))
    monkeypatch.setattr(shapes, "PART", 256)
    columns = [(600, 3), (700, 36), (4, 5)]
    start = [random(*s, seed=i, dtype=dtype) for i, s in enumerate(columns)]
    step_all(name, start, 2, dtype, **over(name, (1,)))


@pytest.mark.parametrize("name", ["AdamS", "AdamST", "AdamSRT", "SGDMRT", "AdamG"])
def test_parts_of_a_step_that_nearly_cancels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "PART", 1024)
    w0 = random(1, 2600, seed=1)
    radial = [w0 * (1.0 + 1e-3 * random(1, 2600, seed=2)), w0 * 0.5]
    hyper = {"lr": 1.0} if name == "SGDMRT" else {"lr": 0.9 * float(w0.norm()) / w0.numel() ** 0.5}
    p = w0.clone()
    optimizer = make(name, [p], "triton", **hyper)
    take_steps(optimizer, [p], [[g] for g in radial])
    start = w0 / w0.norm() if name == "AdamG" else w0
    assert_close_to_oracle(name, start, radial, p, optimizer.state[p], **hyper)


@pytest.mark.parametrize(
    ("shape", "channel_dims"), [((6, 2600), (0,)), ((2100, 4), (1,))], ids=["rows", "columns"]
)
def test_parts_of_nearly_radial_gradients(
    shape: tuple[int, ...], channel_dims: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "PART", 1024)
    check_nearly_radial_gradients(shape, channel_dims, "triton")


# The decision of the others is one for the whole tensor.
SEGMENT_BY_SEGMENT = [n for n in REPRESENTATIVES if "decision" not in DEFAULTS[n]]
ROWS = [(64, 148, contiguous), (12, 2600, contiguous), (64, 147, permuted(1, 0))]


@pytest.mark.parametrize("name", ["AdamST", "AdamSRT", "SGDMRT"])
def test_steps_that_nearly_cancel_the_weight(name: str) -> None:
    """As in test_facts.py, side by side: rows that are held, rows that are read twice, columns."""
    cases, groups = [], []
    for left in LEFT:
        # As many rows as there, because the error of a single sum is a matter of luck.
        for rows, dim, lay in ROWS:
            w0 = random(rows, dim, seed=7, dtype=torch.float64)
            w0 = lay((w0 / w0.norm(dim=1, keepdim=True)).float())
            aside = random(rows, dim, seed=8, dtype=torch.float64, scale=left / dim**0.5)
            grads = [lay((w0.double() + aside).float())]
            lr = {"lr": (1.0 - left) if name == "SGDMRT" else (1.0 - left) / dim**0.5}
            p = lay(w0.clone())
            cases.append((w0, grads, p, lr))
            groups.append({"params": [p], **lr})
    shared = {"momentum": 0.9} if name == "SGDMRT" else {}
    optimizer = make(name, groups, "triton", **shared)
    take_steps(optimizer, [p for _, _, p, _ in cases], [[grads[0] for _, grads, _, _ in cases]])
    for w0, grads, p, lr in cases:
        assert_close_to_oracle(name, w0, grads, p, optimizer.state[p], **shared, **lr)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", SEGMENT_BY_SEGMENT)
def test_what_is_not_finite_stays_in_its_segment(name: str, bad: float) -> None:
    shapes_of = [(7, 30), (5, 32), (3, 2600), (9,)]
    clean, dirty = ([random(*s, seed=i) for i, s in enumerate(shapes_of)] for _ in range(2))
    grads = [torch.ones(s) for s in shapes_of]
    struck = [g.clone() for g in grads]
    for g in struck:
        g[2] = bad
    optimizers = [make(name, params, "triton", **typical(name)) for params in (clean, dirty)]
    take_steps(optimizers[0], clean, [grads])
    take_steps(optimizers[1], dirty, [struck])
    for p, q in zip(clean, dirty, strict=True):
        others = torch.arange(len(p)) != 2
        assert torch.equal(p[others], q[others])
        # Not of the weights: a sign is finite.
        assert not torch.isfinite(optimizers[1].state[q][moment_of(name)][2]).all()


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda f: f.__name__)
def test_the_run_goes_on_bitwise(disturb: Any) -> None:
    optimizer, params, rest = half_way("AdamSRT", "triton", torch.float32)
    optimizer, params = disturb(optimizer, params)
    take_steps(optimizer, params, rest)
    assert_ends_alike(params, undisturbed("AdamSRT", "triton", torch.float32))


def test_what_a_captured_step_sends_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's side of a capture: a graph sends again what it was captured with."""
    monkeypatch.setattr(steps, "_captured", [])
    p = random(4, 8, seed=1)
    optimizer = make("AdamSRT", [p], "triton", capturable=True)
    take_steps(optimizer, [p], [[torch.ones(4, 8)]])
    (run,) = optimizer._prepared.runs
    (of_device,) = run.__closure__[0].cell_contents
    assert optimizer._prepared.plan.ready()
    hypers = [optimizer.hyper(group) for group in optimizer.param_groups]
    with pytest.raises(RuntimeError, match="take one step outside the graph first"):
        of_device._step(hypers, capturing=True)
    of_device._spare = spare = torch.empty_like(of_device._layout.changing)
    of_device._step(hypers, capturing=True)
    of_device._step(hypers, capturing=True)  # the same again needs no more memory
    assert [kept is spare for _, kept in steps._captured] == [True, True]
    assert torch.equal(spare, of_device._layout.changing)
    of_device._layout.changing.zero_()  # as a replay of another graph may
    of_device._step(hypers, capturing=False)
    assert torch.equal(spare, of_device._layout.changing)
    optimizer._prepared.plan.release()
    assert float(optimizer.state[p]["step"]) == 4


def test_a_rule_that_triton_cannot_compile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton as package

    class Kernel(package.JITFunction):
        def __init__(self) -> None:
            self.__name__ = "kernel"

        def warmup(self, *_: Any, **__: Any) -> None:
            raise package.CompilationError("source", None, "reason")

    driver = SimpleNamespace(get_current_target=lambda: SimpleNamespace(warp_size=32, arch=90))
    monkeypatch.setattr(package.runtime.driver, "_active", driver, raising=False)
    with pytest.raises(RuntimeError, match=r"could not compile rule mine, .*backend='reference'"):
        launch.Launch(Kernel(), 1, 4, rules=["rule mine"])


@pytest.mark.parametrize("name", ["AdamSRT", "AdamG"])
def test_the_same_bits_however_tensors_are_grouped(name: str) -> None:
    start = [random(*shape, seed=i) for i, shape in enumerate([*MODEL, (2, 2100), (40, 3)])]
    grads = [random_grads(w.shape, 2, seed=100 * i) for i, w in enumerate(start)]

    def ends(groups: list[list[int]]) -> list[torch.Tensor]:
        params = [w.clone() for w in start]
        for group in groups:
            optimizer = make(name, [params[i] for i in group], "triton", **typical(name))
            steps_of = [[grads[i][t] for i in group] for t in range(2)]
            take_steps(optimizer, [params[i] for i in group], steps_of)
        return params

    everything = list(range(len(start)))
    together = ends([everything])
    for groups in ([everything], [everything[::-1]], [[i] for i in everything]):
        for a, b in zip(together, ends(groups), strict=True):
            assert torch.equal(a, b)
