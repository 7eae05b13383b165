"""Every tolerance of the test suite, and the one rule they follow.

A backend may be off by twice what a straightforward transcription in the same precision is off by,
both measured against the float64 oracle as relative L2 norms per tensor, plus a floor of two last
places, without which a lucky transcription would condemn a backend for a single rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .run import Trajectory, trajectory

FACTOR = 2.0
# In float32, two last places.
FLOOR = {torch.float32: 2.0**-22, torch.float64: 1e-14}
# What the float64 backends owe over 200 steps, whatever the conditioning.
EXACT = 1e-14
# Identities that hold exactly in real numbers: a few roundings per step remain.
IDENTITY = {torch.float32: 4e-6, torch.float64: 1e-13}
# <m,w> after transport, in units of |m||w| with m before it.
ORTHOGONAL = {torch.float32: 1e-6, torch.float64: 2e-15}
# | |w| - 1 | on the sphere, at any number of steps.
ON_SPHERE = {torch.float32: 5e-7, torch.float64: 1e-15}
# | |w| / R - 1 | after 10,000 steps of AdamH in float32.
KEPT_RADIUS = 1e-6
# AdamG's moment where the gradient is 1e4 times what is kept of it.
LEAST_CONDITIONED = 1e-6
# Last places per step between torch.optim and segments of one element: each is within one of the
# exact value, in a different order of operations.
CLASSIC_ULPS = 2.0
# What halving the learning rate divides the gap between SGD and AdamG* by: 32 and 8 in the limit.
HALVED_TWO_STEPS = (31.5, 39.0)
HALVED_AT_FIXED_TIME = (7.0, 8.5)
# Points of accuracy that training under autocast may lose on a few hundred images.
ACCURACY = 2.0
# Share of low-precision weights that a float32 last bit may round to the other neighbour.
ROUNDED_OTHERWISE = 0.01


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| in float64; |actual| where nothing is expected."""
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = float(torch.linalg.vector_norm(expected))
    return float(torch.linalg.vector_norm(actual - expected)) / (scale or 1.0)


def allowed_error(transcription: Tensor, oracle: Tensor, dtype: torch.dtype) -> float:
    """The bound of the rule for a tensor whose arithmetic runs in `dtype`.

    A float64 transcription would be the oracle itself, so that of float64 is estimated: the error
    of a float32 one, which shows how the case amplifies roundings, times the ratio of these. The
    oracle is off by as much itself, which adds one to the factor.
    """
    measured = error(transcription, oracle)
    if dtype == torch.float64:
        measured *= torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        return (FACTOR + 1.0) * measured + FLOOR[dtype]
    return FACTOR * measured + FLOOR[dtype]


class Comparison(NamedTuple):
    """One tensor of a run: its error, and the error it may have."""

    key: str
    off: float
    bound: float


def references(
    name: str, w0: Tensor, grads: Sequence[Tensor | None], dtype: torch.dtype, **hyper: Any
) -> tuple[Trajectory, Trajectory]:
    """The oracle, and the straightforward transcription for weights stored in `dtype`."""
    store = None if dtype == arithmetic_dtype(dtype) else dtype
    plain = trajectory(name, w0, grads, dtype=torch.float32, store=store, **hyper)
    return trajectory(name, w0, grads, **hyper), plain


def compare(
    param: Tensor, state: Mapping[str, Any], oracle: Trajectory, plain: Trajectory
) -> list[Comparison]:
    """The weight, and then every tensor of the state that the oracle keeps."""
    dtype = arithmetic_dtype(param.dtype)
    tensors = [("the weight", param, oracle.w, plain.w)]
    if param.numel():
        tensors += [(key, state[key], t, plain.state[key]) for key, t in oracle.state.items()]
    for key, actual, expected, _ in tensors:
        assert actual.shape == expected.shape, f"{key} has shape {tuple(actual.shape)}"
    return [
        Comparison(key, error(actual, expected), allowed_error(transcribed, expected, dtype))
        for key, actual, expected, transcribed in tensors
    ]


def shares(
    name: str,
    w0: Tensor,
    grads: Sequence[Tensor | None],
    param: Tensor,
    state: Mapping[str, Any],
    **hyper: Any,
) -> list[float]:
    """Error over allowed error of the weight and of each tensor of the state; at most 1 is good."""
    state = {key: t.cpu() for key, t in state.items() if isinstance(t, Tensor)}
    oracle, plain = references(name, w0, grads, param.dtype, **hyper)
    return [c.off / c.bound for c in compare(param.cpu(), state, oracle, plain)]


def assert_close_to_oracle(
    name: str,
    w0: Tensor,
    grads: Sequence[Tensor | None],
    param: Tensor,
    state: Mapping[str, Any],
    **hyper: Any,
) -> None:
    """Assert that `param` and `state` are where the optimizer `name` ends, by the rule above."""
    oracle, plain = references(name, w0, grads, param.dtype, **hyper)
    assert_within(param, state, oracle, plain, f"{name}({hyper}) {tuple(w0.shape)} {param.dtype}")


def assert_within(
    param: Tensor, state: Mapping[str, Any], oracle: Trajectory, plain: Trajectory, what: str
) -> None:
    if param.numel():
        assert set(state) - {"step"} == set(oracle.state), f"{what}: state keys {sorted(state)}"
    for key, off, bound in compare(param, state, oracle, plain):
        # Written so that a NaN fails.
        assert off <= bound, f"{what}: {key} is off by {off:.2e}, allowed {bound:.2e}"


def ulps(actual: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """The largest difference of two tensors of one dtype, in last places of `expected`.

    `scale` holds the largest magnitude that went into each element: a difference that cancels is
    only as good as its terms.
    """
    largest = expected.abs() if scale is None else torch.maximum(expected.abs(), scale.abs())
    place = torch.nextafter(largest, torch.full_like(largest, torch.inf)) - largest
    return float(((actual - expected).abs().double() / place.double()).max())


def assert_same(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Assert equal values, dtype and shape, bit by bit but for the sign of zero."""
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    equal = (actual == expected) | (actual.isnan() & expected.isnan())
    assert bool(equal.all()), f"{what}: {int((~equal).sum())} of {equal.numel()} elements differ"
