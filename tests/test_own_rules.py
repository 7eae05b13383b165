"""What a rule may say means the same, to the last place, on every backend that takes any rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracles.tolerance import EXACT, FLOOR, error
from stepping import random

import sphere_fused as sf
from sphere_fused.rule import Rule, Update, cos, maximum, minimum, sin, sqrt, where

LR, A = 0.3, 0.7


def root_of_a_number(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=sqrt(2.0))


def waves_of_numbers(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=sin(2) * cos(1.0))


def extremes_of_numbers(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=minimum(maximum(0.1, -3), 0.2))


def named_number(gram, s, h):
    """A number that has a name, and a docstring before it."""
    tenth = 0.1
    return Update(s=s, a_w=1, a_x=tenth * sqrt(tenth))


def one_of_two_numbers(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=where(gram.ww > 0, 0.1, 0.2))


def ratio_of_whole_numbers(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=where(gram.ww > 0, 1, 2) / where(gram.ww > 0, 3, 4))


def one_of_two_hyperparameters(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=where(gram.ww > 0, h.own.a, h.lr))


def at_least(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=maximum(gram.ww / 40.0, 0.1) * maximum(h.lr, 0.1))


def of_hyperparameters(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=sqrt(h.own.a) * sin(h.own.a) * cos(h.lr))


def condition_on_hyperparameters(gram, s, h):
    usual = (h.lr > 0.1) & (h.own.a > 0.1) | (gram.ww < 0)
    return Update(s=s, a_w=1.0, a_x=where(usual, gram.ww, 0.0) / 10)


def by_nothing(gram, s, h):
    """What is left out may be infinite."""
    safe = where(h.own.zero > 0, h.lr / h.own.zero, 0.1)
    return Update(s=s, a_w=1.0, a_x=safe)


def no_number(gram, s, h):
    """Or NaN."""
    infinite = 1.0 / h.own.zero
    wave = where(gram.ww > 0, 0.1, sin(infinite) + cos(infinite))
    return Update(s=s, a_w=1.0, a_x=where(h.own.zero < 0, sqrt(-h.own.a), wave))


def no_root(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=where(h.own.zero < 0, sqrt(-h.own.a), 0.1))


def no_wave(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=where(h.own.zero < 0, sin(h.grad_clip), 0.1))


def no_other_wave(gram, s, h):
    return Update(s=s, a_w=1.0, a_x=where(h.own.zero < 0, cos(h.grad_clip), 0.1))


def elementwise(gram, s, h):
    """Does not look at the segment."""
    return Update(s=s, a_w=h.decay, a_x=h.lr)


def named_as_in_triton(gram, s, h):
    """Triton's tuples have values of their own."""
    return Update(s=s, a_w=1.0, a_x=h.own.values)


def all_numbers(gram, s, h):
    return Update(s=0.25, a_w=2, a_x=-0.1, b_w=1.0, b_x=-0.5)


RULES = {
    root_of_a_number: math.sqrt(2),
    waves_of_numbers: math.sin(2) * math.cos(1),
    extremes_of_numbers: 0.1,
    named_number: 0.1 * math.sqrt(0.1),
    one_of_two_numbers: 0.1,
    ratio_of_whole_numbers: 1 / 3,
    one_of_two_hyperparameters: A,
    at_least: 0.1 * LR,
    of_hyperparameters: math.sqrt(A) * math.sin(A) * math.cos(LR),
    condition_on_hyperparameters: 0.4,
    by_nothing: 0.1,
    no_number: 0.1,
    no_root: 0.1,
    no_wave: 0.1,
    no_other_wave: 0.1,
    elementwise: LR,
    named_as_in_triton: A,
}


def stepped(step: Any, backend: str, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """All after a step of rows of four ones whose gradient and moment are of ones."""

    class Mine(sf.AdamS):
        rule = Rule("mine", step, own=("a", "zero", "values"))

    w = torch.ones(3, 4, dtype=dtype)
    w.grad = torch.ones_like(w)
    optimizer = Mine([w], lr=LR, betas=(0.0, 0.9), backend=backend, a=A, zero=0.0, values=A)
    optimizer.step()
    return {"w": w, **optimizer.state[w]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("step", RULES, ids=lambda step: step.__name__)
def test_values_are_exact(step: Any, dtype: torch.dtype, open_backend: str) -> None:
    w = stepped(step, open_backend, dtype)["w"]
    assert w.dtype == dtype
    assert float((w.double() - (1.0 + RULES[step])).abs().max()) <= FLOOR[dtype]


def test_an_update_may_be_all_numbers(open_backend: str) -> None:
    state = stepped(all_numbers, open_backend, torch.float64)
    assert torch.allclose(state["w"], torch.full_like(state["w"], 1.9), rtol=0, atol=1e-15)
    assert bool((state["exp_avg"] == 0.5).all())
    assert bool((state["exp_avg_sq"] == 0.25).all())


class Doubled:
    def step(gram, s, h):
        return Update(s=s, a_w=2.0, a_x=0.0)


class Tripled:
    def step(gram, s, h):
        return Update(s=s, a_w=3.0, a_x=0.0)


def chosen(times: int) -> Any:
    if times == 4:

        def step(gram, s, h):
            return Update(s=s, a_w=4.0, a_x=0.0)

    else:

        def step(gram, s, h):
            return Update(s=s, a_w=5.0, a_x=0.0)

    return step


def namesakes() -> dict[int, Any]:
    """Steps that have one name, by what they multiply with."""
    return {2: Doubled.step, 3: Tripled.step, 4: chosen(4), 5: chosen(5)}


def test_rules_of_one_name_are_told_apart(open_backend: str) -> None:
    steps = namesakes()
    if open_backend == "triton":
        from sphere_fused.backends.triton.moves import bound

        # Before any of them runs.
        rules = [Rule("mine", step, own=("a", "zero")) for step in steps.values()]
        assert len({bound(rule)[0].fn.__qualname__ for rule in rules}) == len(steps)
    for times, step in steps.items():
        assert bool((stepped(step, open_backend)["w"] == times).all())


def trust_ratio(gram, s, h):
    """A step of Adam's direction, lr |w| long."""
    ratio = where(gram.xx > 0, sqrt(gram.ww) / sqrt(gram.xx), 1.0)
    return Update(s=s, a_w=1.0, a_x=-h.lr * ratio)


class TrustRatio(sf.AdamS):
    rule = Rule("trust", trust_ratio, direction="adam", second_moment="element")


@pytest.mark.parametrize("shape", [(5, 9), (3, 64), (2, 2100), (40, 3)], ids=str)
@pytest.mark.parametrize("channel_dims", [(0,), (1,)], ids=str)
def test_a_second_moment_per_element(
    shape: tuple[int, int], channel_dims: tuple[int], open_backend: str
) -> None:
    w0, *grads = (random(*shape, seed=i, dtype=torch.float64) for i in range(4))
    w, expected = w0.clone(), w0.clone()
    optimizer = TrustRatio([w], lr=0.1, channel_dims=channel_dims, backend=open_backend)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        w.grad = g
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        inside = 1 - channel_dims[0]
        length = expected.norm(dim=inside, keepdim=True) / u.norm(dim=inside, keepdim=True)
        expected = expected - 0.1 * length * u
    assert error(w, expected) <= EXACT
    assert error(optimizer.state[w]["exp_avg_sq"], v) <= EXACT
    assert error(optimizer.state[w]["exp_avg"], m) <= EXACT


def without_mean(gram, s, h):
    """A step of the buffer less its mean, lr |w| long but for that."""
    size = h.lr * sqrt(gram.ww) / sqrt(gram.xx)
    return Update(s=s, a_w=1.0, a_x=-size, a_1=size * gram.sx / h.dim)


class WithoutMean(sf.SGDMRT):
    rule = Rule("mean", without_mean, direction="nesterov", second_moment=None)


def along_signs(gram, s, h):
    return Update(s=s + gram.xx, a_w=1.0, a_x=-h.lr)


def back_to_radius(gram, y, u, h):
    scale = gram.radius / sqrt(y.yy)
    return Update(s=u.s, a_w=scale * u.a_w, a_x=scale * u.a_x)


class AlongSigns(sf.RotationalLion):
    rule = Rule(
        "signs",
        along_signs,
        land=back_to_radius,
        direction="sign",
        second_moment=None,
        segment_state="moved",
        keeps_radius=True,
    )


def squared_cosine(gram, h):
    return gram.wg * gram.wg / (gram.ww * gram.gg)


def how_careful(whole, most, h):
    of_all = whole.wg * whole.wg / (whole.ww * whole.gg)
    return where(most < h.own.floor, 1.0, where(of_all < h.own.floor, 2.0, 0.0))


def careful(gram, s, h):
    ratio = where(h.verdict > 0, sqrt(gram.ww) / sqrt(gram.xx), 1.0)
    return Update(s=s, a_w=1.0, a_x=-h.lr * ratio)


class Careful(sf.SGDMRT):
    """Steps lr |w| long, of filters or of the tensor, whichever are orthogonal to the gradient."""

    rule = Rule(
        "careful",
        careful,
        second_moment=None,
        peak=squared_cosine,
        verdict=how_careful,
        own=("floor",),
    )


each_shape = pytest.mark.parametrize("shape", [(5, 9), (2, 2100)], ids=str)


@each_shape
def test_a_direction_of_momentum(shape: tuple[int, int], open_backend: str) -> None:
    w0, *grads = (random(*shape, seed=i, dtype=torch.float64) for i in range(4))
    w, expected, b = w0.clone(), w0.clone(), torch.zeros_like(w0)
    optimizer = WithoutMean([w], lr=0.1, momentum=0.9, backend=open_backend)
    for g in grads:
        w.grad = g
        optimizer.step()
        b = 0.9 * b + g
        length = 0.1 * expected.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)
        expected = expected - length * (b - b.mean(dim=1, keepdim=True))
    assert error(w, expected) <= EXACT
    assert error(optimizer.state[w]["momentum_buffer"], b) <= EXACT


@each_shape
def test_signs_a_radius_and_a_state(shape: tuple[int, int], open_backend: str) -> None:
    w0, *grads = (random(*shape, seed=i, dtype=torch.float64) for i in range(4))
    w, expected, m = w0.clone(), w0.clone(), torch.zeros_like(w0)
    radius = w0.norm(dim=1, keepdim=True)
    hyper = {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "zero_mean": False}
    optimizer = AlongSigns([w], backend=open_backend, **hyper)
    for g in grads:
        w.grad = g
        optimizer.step()
        there = expected - 0.1 * (0.8 * m + (1 - 0.8) * g).sign()
        m = 0.9 * m + (1 - 0.9) * g
        expected = radius * there / there.norm(dim=1, keepdim=True)
    state = optimizer.state[w]
    assert error(w, expected) <= EXACT
    assert error(state["exp_avg"], m) <= EXACT
    assert error(state["radius"], radius) <= EXACT
    assert bool((state["moved"] == 3 * shape[1]).all())


@pytest.mark.parametrize("verdict", [0, 1, 2])
@each_shape
def test_a_verdict_on_the_tensor(shape: tuple[int, int], verdict: int, open_backend: str) -> None:
    w, g = (random(*shape, seed=i, dtype=torch.float64) for i in range(2))
    g[0] += w[0]  # so that the filters are not alike
    most, of_all = (
        ((w * g).sum(d, True) ** 2 / ((w * w).sum(d, True) * (g * g).sum(d, True))).max()
        for d in (1, (0, 1))
    )
    assert of_all < most
    floor = float({0: of_all / 2, 1: most * 2, 2: (of_all + most) / 2}[verdict])
    segment = (0, 1) if verdict == 2 else 1
    ratio = w.norm(dim=segment, keepdim=True) / g.norm(dim=segment, keepdim=True)
    expected = w - 0.1 * g * (ratio if verdict else 1.0)
    w.grad = g
    Careful([w], lr=0.1, floor=floor, backend=open_backend).step()
    assert error(w, expected) <= EXACT


def test_adams_direction_needs_a_class_that_counts_steps() -> None:
    class Uncounted(sf.SGDMRT):
        rule = Rule("trust", trust_ratio, direction="adam", second_moment="element")

    with pytest.raises(TypeError, match=r"does not count steps.*derive it from AdamS"):
        Uncounted([torch.ones(3, 4)], momentum=0.9)
