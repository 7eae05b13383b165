"""Numbers at the ends of what their dtypes hold, and steps by the million."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cases import FIXED_RADIUS, OPTIMIZERS, REPRESENTATIVES, moment_of, over, typical
from oracles import DEFAULTS
from oracles.run import prepare
from oracles.tolerance import (
    allowed_error,
    assert_close_to_oracle,
    assert_same,
    compare,
    error,
    references,
)
from stepping import make, random, random_grads, run, take_steps
from torch import Tensor

from sphere_fused import plan

SHAPE = (8, 30)
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
HALF_MAX, HALF_MIN = 65504.0, 2.0**-24
Numbers = Callable[[int], Tensor]


def of_size(scale: float) -> Numbers:
    return lambda seed: random(*SHAPE, seed=seed, dtype=torch.float64, scale=scale)


def signs_of(size: float) -> Numbers:
    return lambda seed: size * random(*SHAPE, seed=seed, dtype=torch.float64).sign()


# Weights, gradients and the dtype of both. In float32 squares of 1e-20 are subnormal, of 1e-40
# zero, and 1e-40 is subnormal itself.
EXTREMES = {
    "gradients-1e-20": (of_size(1.0), of_size(1e-20), F32),
    "gradients-1e-40": (of_size(1.0), of_size(1e-40), F32),
    "norms-1e-8": (of_size(1e-8 / 30**0.5), of_size(1.0), F32),
    "norms-1e8": (of_size(1e8 / 30**0.5), of_size(1.0), F32),
    "norms-1e-8-gradients-1e8": (of_size(1e-8 / 30**0.5), of_size(1e8), F32),
    "norms-1e8-gradients-1e-8": (of_size(1e8 / 30**0.5), of_size(1e-8), F32),
    "weights-1e-20": (of_size(1e-20), of_size(1.0), F32),
    "all-subnormal": (of_size(1e-40), of_size(1e-40), F32),
    "half-least-gradients": (of_size(1.0), signs_of(HALF_MIN), F16),
    "half-largest-gradients": (of_size(1.0), signs_of(HALF_MAX), F16),
    "half-least-weights": (signs_of(HALF_MIN), of_size(1.0), F16),
    "half-least-of-all": (signs_of(HALF_MIN), signs_of(HALF_MIN), F16),
    "half-largest-weights": (signs_of(3e4), of_size(1.0), F16),
    "bfloat16-subnormal": (of_size(1.0), of_size(1e-40), BF16),
}


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_extreme_numbers(name: str, extreme: str, backend: str) -> None:
    weights, gradients, dtype = EXTREMES[extreme]
    if name in FIXED_RADIUS and extreme == "all-subnormal":
        pytest.skip("no float32 transcription normalizes weights whose squares are 0")
    if name == "RotationalSGDM" and extreme == "weights-1e-20":
        pytest.skip("it composes |w'|^2 of three sums of subnormal squares, of five digits each")
    w0 = weights(1).to(dtype)
    hyper: dict[str, Any] = typical(name)
    if name == "SGDMRT" and "largest" in extreme:
        hyper = {**hyper, "lr": 1e-6}  # or it leaves the range of half
    if name in ("RiemannianAdam", "RiemannianSGD"):
        # It is radial: of smaller gradients its roundings would leave nothing.
        hyper = {**hyper, "weight_decay": 0.0}
    for steps in (1, 3):
        grads = [gradients(10 + t).to(dtype) for t in range(steps)]
        p, state = run(name, w0, grads, backend, **hyper)
        assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("size", [1e19, 1e20, 1e37])
# Of RiemannianSGD's steps, which are as long as the gradient, nothing is left.
@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "RiemannianSGD"])
def test_gradients_whose_squares_overflow(name: str, size: float, steps: int, backend: str) -> None:
    """S becomes infinite and the segment stays where it is, as the weights of torch's Adam do. What
    a float32 transcription still makes a number of must be as good as there."""
    w0 = random(*SHAPE, seed=1)
    grads = [of_size(size)(10 + t).float() for t in range(steps)]
    p, state = run(name, w0, grads, backend, **typical(name))
    if moment_of(name) == "exp_avg":
        assert bool(torch.isfinite(p).all())
        assert bool(torch.isfinite(state["exp_avg"]).all())
    tensors = {k: v for k, v in state.items() if k != "step"}
    for key, off, bound in compare(p, tensors, *references(name, w0, grads, F32, **typical(name))):
        assert off <= bound or bound != bound, f"{key} is off by {off:.2e}, allowed {bound:.2e}"


def test_clipping_survives_a_gradient_whose_square_overflows(backend: str) -> None:
    w0, grads = random(*SHAPE, seed=1), random_grads(SHAPE, 3)
    grads[1] *= 1e20
    p, state = run("AdamG", w0, grads, backend, lr=0.1, grad_clip=1.0)
    assert all(bool(torch.isfinite(t).all()) for t in (p, *state.values()))


@pytest.mark.parametrize("dtype", [F32, F16, BF16, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("name", "channel_dims"),
    [
        (name, dims)
        for name in OPTIMIZERS
        if name not in FIXED_RADIUS
        for dims in ([(0,), (1,), (), None] if "channel_dims" in DEFAULTS[name] else [None])
    ],
)
def test_filters_that_are_all_zero(
    name: str, channel_dims: tuple[int, ...] | None, dtype: torch.dtype, backend: str
) -> None:
    """They stay so without a gradient, and begin to move with the first."""
    hyper = over(name, channel_dims)
    w0, nothing = torch.zeros(SHAPE, dtype=dtype), torch.zeros(SHAPE, dtype=dtype)
    p, state = run(name, w0, [nothing] * 3, backend, **hyper)
    assert_same(p, w0)
    assert all(not bool(t.any()) for key, t in state.items() if key != "step")
    grads = [nothing, *random_grads(SHAPE, 2, dtype)]
    p, state = run(name, w0, grads, backend, **hyper)
    assert_close_to_oracle(name, w0, grads, p, state, **hyper)


@pytest.fixture(params=[] if plan.compiled is None else plan.compiled.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    plan.compiled.use_instruction_set(request.param)
    yield request.param
    plan.compiled.use_instruction_set(None)


@pytest.fixture
def flushed() -> Iterator[Callable[[bool], None]]:
    """Lets the processor take subnormal numbers for zero, where it can."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush subnormal numbers")
    yield torch.set_flush_denormal
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [F32, F16, BF16, torch.float64], ids=str)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_flushing_changes_nothing_without_subnormal_numbers(
    name: str, dtype: torch.dtype, instruction_set: str, flushed: Callable[[bool], None]
) -> None:
    results = []
    for on in (False, True):
        w0, grads = random(19, 65, seed=1, dtype=dtype), random_grads((19, 65), 3, dtype)
        flushed(on)
        p, state = run(name, w0, grads, "native", **typical(name))
        flushed(False)
        results.append([p, *state.values()])
    for kept, plain in zip(*results, strict=True):
        assert_same(kept, plain)


def test_flushing_leaves_every_half_alone(
    instruction_set: str, flushed: Callable[[bool], None]
) -> None:
    """A subnormal half is a normal float32, also where no instruction converts it."""
    halves = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(F16)
    halves[halves.isinf()] = 0.0
    p = halves.clone()
    p.grad = torch.zeros_like(p)
    optimizer = make("SGDMRT", [p], "native", lr=0.0, channel_dims=None)
    flushed(True)
    optimizer.step()
    flushed(False)
    assert_same(p, halves)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_flushed_numbers_count_as_zero(
    name: str, dtype: torch.dtype, backend: str, flushed: Callable[[bool], None]
) -> None:
    w0, grads = random(9, 33, seed=1, dtype=dtype), random_grads((9, 33), 2, dtype)
    with_zeros = []
    for t in (w0, *grads):
        t[3:, ::3] = 0.0
        with_zeros.append(t.clone())
        t[3:, ::3] = 1e-40
    without, _ = run(name, with_zeros[0], with_zeros[1:], backend, **typical(name))
    flushed(True)
    p, _ = run(name, w0, grads, backend, **typical(name))
    flushed(False)
    assert_same(p, without)


@pytest.mark.parametrize("shape", [SHAPE, (33,)], ids=str)
@pytest.mark.parametrize("beta2", [0.999, 1 - 1e-6])
@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "betas" in DEFAULTS[n]])
def test_the_millionth_step(name: str, beta2: float, shape: tuple[int, ...], backend: str) -> None:
    hyper = {**typical(name), "betas": (0.9, beta2)}
    grads = random_grads(shape, 2)
    p = random(*shape, seed=1)
    optimizer = make(name, [p], backend, **hyper)
    take_steps(optimizer, [p], [[grads[0]]])
    state = optimizer.state[p]
    state["step"].fill_(10**6 - 1)
    rows, _, step, h = prepare(name, shape, **hyper)

    def in_rows(t: Tensor) -> Tensor:
        return t.reshape(rows.segments, -1)

    def millionth(dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
        w, g = (in_rows(t.to(dtype)) for t in (p, grads[1]))
        held = {key: in_rows(t.to(dtype)) for key, t in state.items() if key != "step"}
        return step(w, g, held, 10**6, h)

    oracle, plain = millionth(torch.float64), millionth(F32)
    take_steps(optimizer, [p], [[grads[1]]])
    assert float(state["step"]) == 10**6
    assert error(in_rows(p), oracle[0]) <= allowed_error(plain[0], oracle[0], F32)
    for key, o in oracle[1].items():
        assert error(in_rows(state[key]), o) <= allowed_error(plain[1][key], o, F32), key


@pytest.mark.interpreted
@pytest.mark.parametrize("name", ["AdamSRT", "AdamG", "RotationalAdamW"])
def test_steps_are_counted_to_the_largest_float_that_counts(name: str, backend: str) -> None:
    """And stay there, as those of torch do, in whose bias corrections nothing is left to see."""
    p, theirs = random(4, 9, seed=1), random(4, 9, seed=1)
    optimizer, adam = make(name, [p], backend), torch.optim.Adam([theirs])
    grads = [random_grads((4, 9), 1)]
    take_steps(optimizer, [p], grads)
    take_steps(adam, [theirs], grads)
    ours, other = optimizer.state[p]["step"], adam.state[theirs]["step"]
    ours.fill_(2**24 - 2)
    other.fill_(2**24 - 2)
    for _ in range(4):
        before = p.clone()
        optimizer.step()
        adam.step()
        assert float(ours) == float(other) <= 2**24
        assert bool(torch.isfinite(p).all())
        assert not torch.equal(p, before)
    assert float(ours) == 2**24
