"""A tensor as a matrix with a segment in every row, and what the optimizers are written in."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# By torch's names, made in the first step: a row per segment, or one column where it is one number.
State = dict[str, Tensor]
Hyper = dict[str, Any]
# (w, g, state, t, hyperparameters) -> (w', state'), with g negated already if it is to be.
Step = Callable[[Tensor, Tensor, State, int, Hyper], tuple[Tensor, State]]
# What the constructor makes of w.
Construct = Callable[[Tensor, Hyper], Tensor]
# The default of what has none, as Python's own signatures say it.
REQUIRED = inspect.Parameter.empty


class Rows(NamedTuple):
    """How a tensor becomes such a matrix and a matrix a tensor again."""

    channel_shape: list[int]
    inside_shape: list[int]
    order: list[int]  # the dims that tell segments apart, then those inside a segment

    @property
    def segments(self) -> int:
        return math.prod(self.channel_shape)

    @property
    def dim(self) -> int:
        return math.prod(self.inside_shape)

    def split(self, t: Tensor) -> Tensor:
        return t.permute(self.order).reshape(self.segments, self.dim)

    def join(self, rows: Tensor) -> Tensor:
        """The inverse of `split`; one number per segment gets size 1 inside segments."""
        inside = self.inside_shape if rows.shape[1] == self.dim else [1] * len(self.inside_shape)
        t = rows.reshape(self.channel_shape + inside)
        return t.permute([self.order.index(d) for d in range(len(self.order))])


def rows_of(shape: Sequence[int], channel_dims: Sequence[int] | None) -> Rows:
    dims = range(len(shape))
    if channel_dims is None or not shape:
        channels = list(dims)
    else:
        channels = [d % len(shape) for d in channel_dims]
    inside = [d for d in dims if d not in channels]
    return Rows([shape[d] for d in channels], [shape[d] for d in inside], channels + inside)


def of_one_element(shape: Sequence[int], rows: Rows, h: Hyper) -> bool:
    return rows.dim == 1


def as_it_is(w: Tensor, h: Hyper) -> Tensor:
    return w


class Oracle(NamedTuple):
    """One optimizer. Its segments are those of its channel_dims, or, where it has no such argument,
    of the ones given here."""

    defaults: Hyper
    step: Step
    classic: Step  # instead of `step` on tensors of which `is_classic`
    is_classic: Callable[[Sequence[int], Rows, Hyper], bool] = of_one_element
    construct: Construct = as_it_is
    channel_dims: tuple[int, ...] = (0,)


def inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def norm(a: Tensor) -> Tensor:
    return inner(a, a).sqrt()


def at_radius(radius: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """x as long as `radius` says, or w where x is 0."""
    length = norm(x)
    return torch.where(length > 0, radius * x / length, w)
