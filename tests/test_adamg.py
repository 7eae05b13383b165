"""AdamG stays on the sphere, and is Adam off it."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, typical
from oracles import trajectory
from oracles.tolerance import (
    IDENTITY,
    LEAST_CONDITIONED,
    ON_SPHERE,
    assert_close_to_oracle,
    assert_same,
    error,
)
from stepping import make, random, random_grads, run, take_steps
from torch import Tensor

DTYPES = [torch.float32, torch.float64]


def off_sphere(p: Tensor) -> float:
    return float((p.double().norm(dim=1) - 1).abs().max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_segments_are_normalized_at_construction(dtype: torch.dtype, backend: str) -> None:
    w0 = random(6, 5, 3, seed=1, dtype=dtype, scale=7.0)
    p, bias, scale = w0.clone(), random(6, seed=2, dtype=dtype), random(6, 1, seed=3, dtype=dtype)
    before = [bias.clone(), scale.clone()]
    make("AdamG", [p, bias, scale], backend)
    expected = w0.double() / w0.double().flatten(1).norm(dim=1)[:, None, None]
    assert error(p, expected) <= ON_SPHERE[dtype]
    assert_same(bias, before[0])
    assert_same(scale, before[1])


def test_segments_follow_channel_dims_at_construction(backend: str) -> None:
    w0 = random(6, 5, seed=4)
    for dims, over in (((), (0, 1)), ((1,), (0,)), ((0,), (1,))):
        p = w0.clone()
        make("AdamG", [p], backend, channel_dims=dims)
        norm = torch.linalg.vector_norm(p.double(), dim=over)
        assert float((norm - 1).abs().max()) <= ON_SPHERE[torch.float32]
    p = w0.clone()
    make("AdamG", [p], backend, channel_dims=None)
    assert_same(p, w0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hyper", CASES["AdamG"].values(), ids=CASES["AdamG"])
def test_norms_stay_1_over_thousands_of_steps(
    hyper: dict, dtype: torch.dtype, backend: str
) -> None:
    p = random(8, 19, seed=5, dtype=dtype)
    grads = random_grads((8, 19), 50, dtype)
    optimizer = make("AdamG", [p], backend, **hyper)
    for _ in range(40):
        take_steps(optimizer, [p], [[g] for g in grads])
        assert off_sphere(p) <= ON_SPHERE[dtype]


def test_an_outward_gradient_does_not_make_the_weight_run_away(backend: str) -> None:
    p = random(8, 19, seed=6)
    optimizer = make("AdamG", [p], backend)
    for t in range(1500):
        p.grad = random(8, 19, seed=t % 50, scale=1e-3) - 3 * p.detach()
        optimizer.step()
    assert off_sphere(p) <= ON_SPHERE[torch.float32]


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_weights_stay_to_the_bit_while_lr_is_0(dtype: torch.dtype, backend: str) -> None:
    p = random(8, 19, seed=8, dtype=dtype)
    optimizer = make("AdamG", [p], backend, lr=0.1)
    first, second = random_grads((8, 19), 2, dtype)
    take_steps(optimizer, [p], [[first]])
    p.mul_(1.5)  # not even to the sphere
    w, m = p.clone(), optimizer.state[p]["exp_avg"].clone()
    optimizer.param_groups[0]["lr"] = 0.0
    take_steps(optimizer, [p], [[second], [torch.zeros_like(p)]])
    assert_same(p, w)
    assert not torch.equal(optimizer.state[p]["exp_avg"], m)


@pytest.mark.interpreted
def test_the_weight_is_brought_back_to_the_sphere_at_every_step(backend: str) -> None:
    """Someone else may have scaled it, or a checkpoint of another optimizer been loaded."""
    w0, grads = random(8, 19, seed=7), random_grads((8, 19), 1)
    results = []
    for scale in (1.0, 5.0):
        p = w0.clone()
        optimizer = make("AdamG", [p], backend)
        p *= scale
        take_steps(optimizer, [p], [grads])
        results.append(p)
    assert off_sphere(results[1]) <= ON_SPHERE[torch.float32]
    assert error(results[1], results[0]) <= IDENTITY[torch.float32]


@pytest.mark.interpreted
def test_the_radial_part_of_the_gradient_is_ignored(backend: str) -> None:
    """Weight decay with it, of either kind."""
    grads = random_grads((8, 20), 10, torch.float64)
    ends = []
    for radial, hyper in (
        (0.0, {}),
        (10.0, {}),
        (0.0, {"weight_decay": 5.0}),
        (0.0, {"weight_decay": 5.0, "decoupled_weight_decay": True}),
    ):
        p = random(8, 20, seed=8, dtype=torch.float64)
        optimizer = make("AdamG", [p], backend, **typical("AdamG") | {"weight_decay": 0.0} | hyper)
        for g in grads:
            p.grad = g + radial * p.detach()
            optimizer.step()
        ends.append((p, optimizer.state[p]))
    for p, state in ends[1:]:
        assert error(p, ends[0][0]) <= IDENTITY[torch.float64]
        assert error(state["exp_avg_sq"], ends[0][1]["exp_avg_sq"]) <= IDENTITY[torch.float64]
        assert error(state["exp_avg"], ends[0][1]["exp_avg"]) <= IDENTITY[torch.float64]


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-30, 1e-24, 1e-20, 1e-15, 1e-9])
def test_tiny_steps(size: float, dtype: torch.dtype, backend: str) -> None:
    """Where the square of a length is 0 in this precision, d/|d| would be 0/0."""
    w0 = random(8, 19, seed=9, dtype=dtype)
    grads = [size * g for g in random_grads((8, 19), 3, dtype)]
    p, state = run("AdamG", w0, grads, backend)
    for t in (p, state["exp_avg"], state["exp_avg_sq"]):
        assert bool(torch.isfinite(t).all())
    assert off_sphere(p) <= ON_SPHERE[dtype]
    assert error(p, trajectory("AdamG", w0, grads).w) <= ON_SPHERE[dtype]
    if size == 0.0:
        assert_same(state["exp_avg"], torch.zeros_like(p))


@pytest.mark.interpreted
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-9])
def test_tiny_gradients_are_not_clipped(size: float, backend: str) -> None:
    w0 = random(8, 19, seed=10)
    grads = [size * g for g in random_grads((8, 19), 2)]
    p, state = run("AdamG", w0, grads, backend, grad_clip=1.0)
    free, free_state = run("AdamG", w0, grads, backend)
    assert bool(torch.isfinite(p).all())
    assert error(p, free) <= IDENTITY[torch.float32]
    assert error(state["exp_avg"], free_state["exp_avg"]) <= IDENTITY[torch.float32]


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grad_clip", [None, 1.0])
def test_lengths_that_cancel_stay_real(
    dtype: torch.dtype, grad_clip: float | None, backend: str
) -> None:
    """Squares that are 0 but for roundings, which may be negative: their roots must not be NaN."""
    p = random(200, 20, seed=15, dtype=dtype)
    hyper = {"lr": 0.0, "betas": (0.5, 0.5), "grad_clip": grad_clip}
    optimizer = make("AdamG", [p], backend, **hyper)
    w, g = p.clone(), random(200, 20, seed=16, dtype=dtype)
    # Radial, so that nothing of it is left; then the second gradient undoes the first.
    for step in (3 * w, torch.zeros_like(g), g, -g / 2, -3 * w):
        take_steps(optimizer, [p], [[step]])
        state = optimizer.state[p]
        for t in (p, state["exp_avg"], state["exp_avg_sq"]):
            assert bool(torch.isfinite(t).all())
        assert bool((state["exp_avg_sq"] >= 0).all())
    assert error(p, w) <= ON_SPHERE[dtype]


@pytest.mark.interpreted
def test_a_gradient_far_above_grad_clip_keeps_its_digits(backend: str) -> None:
    """|g| = 1e4 grad_clip: m must not be found as a difference of large terms."""
    w0 = random(8, 147, seed=11)
    w0 /= w0.norm(dim=1, keepdim=True)
    grads = []
    for t in range(8):
        g = random(8, 147, seed=20 + t)
        grads.append(1e4 * g / g.norm(dim=1, keepdim=True))
    hyper = {"lr": 0.05, "grad_clip": 1.0}
    p, state = run("AdamG", w0, grads, backend, **hyper)
    assert_close_to_oracle("AdamG", w0, grads, p, state, **hyper)
    oracle = trajectory("AdamG", w0, grads, **hyper)
    assert error(state["exp_avg"], oracle.state["exp_avg"]) <= LEAST_CONDITIONED
    longest = (1 - 0.9**8) * 1.0
    assert float(state["exp_avg"].norm(dim=1).max()) <= longest * (1 + IDENTITY[torch.float32])


def check_nearly_radial_gradients(
    shape: tuple[int, ...], channel_dims: tuple[int, ...], backend: str
) -> None:
    """What is left without the radial part is 1/300 of the gradient in every third segment."""
    inside = 1 - channel_dims[0]
    w0 = random(*shape, seed=30)
    w0 /= w0.norm(dim=inside, keepdim=True)
    g = random(*shape, seed=31)
    g /= g.norm(dim=inside, keepdim=True)
    radial = (torch.arange(shape[channel_dims[0]]) % 3 == 0).unsqueeze(inside)
    grads = [torch.where(radial, 300 * w0 + g, g)] * 2
    hyper = {"lr": 0.1, "channel_dims": channel_dims}
    p, state = run("AdamG", w0, grads, backend, **hyper)
    assert_close_to_oracle("AdamG", w0, grads, p, state, **hyper)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("shape", "channel_dims"),
    [((90, 2), (0,)), ((60, 148), (0,)), ((3, 140), (1,)), ((130, 37), (1,))],
    ids=["two", "rows", "columns-of-three", "columns"],
)
def test_nearly_radial_gradients_keep_their_digits(
    shape: tuple[int, ...], channel_dims: tuple[int, ...], backend: str
) -> None:
    check_nearly_radial_gradients(shape, channel_dims, backend)


@pytest.mark.parametrize(
    ("shape", "channel_dims"), [((12, 70_001), (0,)), ((999, 37), (1,))], ids=["rows", "columns"]
)
def test_nearly_radial_gradients_of_long_segments(
    shape: tuple[int, ...], channel_dims: tuple[int, ...], backend: str
) -> None:
    """In test_triton.py there are parts that its interpreter steps in seconds."""
    check_nearly_radial_gradients(shape, channel_dims, backend)


@pytest.mark.interpreted
def test_biases_are_plain_adam(backend: str) -> None:
    for shape in ((33,), (7, 1), ()):
        w0, grads = random(*shape, seed=12), random_grads(shape, 10)
        theirs = w0.clone()
        adam = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
        take_steps(adam, [theirs], [[g] for g in grads])
        ours, state = run("AdamG", w0, grads, backend, weight_decay=0.1, grad_clip=1e-3)
        assert error(ours, theirs) <= IDENTITY[torch.float32]
        for key in ("exp_avg", "exp_avg_sq"):
            assert error(state[key], adam.state[theirs][key]) <= IDENTITY[torch.float32]


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_a_segment_without_direction_is_refused(bad: float, backend: str) -> None:
    good, last = random(4, 5, seed=13, scale=2.0), random(4, 5, seed=14, scale=2.0)
    last[2] = bad
    before = [good.clone(), last.clone()]
    with pytest.raises(ValueError, match="norm 0"):
        make("AdamG", [good, last], backend)
    assert_same(good, before[0])
    assert_same(last, before[1])
