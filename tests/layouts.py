"""Shapes, strides and channel_dims that the optimizers are tested with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


def contiguous(t: Tensor) -> Tensor:
    return t.contiguous()


def channels_last(t: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return t.contiguous(memory_format=formats[t.dim()])


def permuted(*order: int) -> Callable[[Tensor], Tensor]:
    """Dims in memory in the given order, outermost first."""

    def make(t: Tensor) -> Tensor:
        back = [order.index(d) for d in range(len(order))]
        return t.permute(order).contiguous().permute(back)

    return make


def sliced(t: Tensor) -> Tensor:
    """A dense part of something larger, at an address that is not a multiple of 16 bytes."""
    larger = torch.full((t.numel() + 8,), torch.nan, dtype=t.dtype)
    larger[3 : 3 + t.numel()] = t.reshape(-1)
    return larger[3 : 3 + t.numel()].view(t.shape)


def strided(t: Tensor) -> Tensor:
    """Every second column of something larger: not dense."""
    larger = torch.full((*t.shape[:-1], 2 * t.shape[-1]), torch.nan, dtype=t.dtype)
    larger[..., ::2] = t
    return larger[..., ::2]


class Layout(NamedTuple):
    """A tensor to step.

    blocks: whether it is dense and its segments lie as a compiled backend can traverse them,
        as (outer, dim, inner) in memory; the others are left to the reference.
    """

    name: str
    shape: tuple[int, ...]
    channel_dims: tuple[int, ...] | None = (0,)
    make: Callable[[Tensor], Tensor] = contiguous
    blocks: bool = True


SHAPES = [
    *(Layout(f"rows-of-{d}", (5, d)) for d in (2, 9, 27, 147, 576, 4608)),
    Layout("one-row", (1, 77)),
    Layout("many-rows", (301, 3)),
    Layout("3-D", (6, 5, 7)),
    Layout("4-D", (6, 5, 3, 3)),
    Layout("5-D", (4, 3, 2, 3, 2)),
    Layout("1-D", (13,)),
    Layout("0-d", ()),
    Layout("0-d-whole", (), ()),
    Layout("0-d-none", (), None),
    Layout("one-column", (7, 1)),
    Layout("depthwise-1x1", (7, 1, 1, 1)),
    Layout("one-element", (1, 1)),
    Layout("no-rows", (0, 5)),
    Layout("no-columns", (5, 0)),
    Layout("empty", (0,)),
]
CHANNELS = [
    Layout("whole", (6, 5, 7), ()),
    Layout("whole-1-D", (37,), ()),
    Layout("leading-two", (6, 5, 7), (0, 1)),
    Layout("leading-two-negative", (6, 5, 7), (-3, 1)),
    Layout("columns", (11, 9), (1,)),
    Layout("last", (6, 5, 7), (-1,)),
    Layout("last-two", (6, 5, 7), (1, 2)),
    Layout("last-two-reversed", (6, 5, 7), (2, 1)),
    Layout("outer-and-inner", (6, 5, 7), (0, 2)),
    Layout("all", (6, 5, 7), (0, 1, 2)),
    Layout("none", (6, 5, 7), None),
    Layout("size-1-channel", (1, 5, 7), (0,)),
    Layout("size-1-inside", (6, 1, 7), (0,)),
    Layout("middle", (6, 5, 7), (1,), blocks=False),
    Layout("input-channel", (6, 5, 3, 3), (1,), blocks=False),
]
STRIDES = [
    Layout("channels-last", (6, 5, 3, 3), (0,), channels_last),
    Layout("channels-last-3d", (4, 3, 2, 3, 2), (0,), channels_last),
    Layout("channels-last-leading-two", (6, 5, 3, 3), (0, 1), channels_last),
    Layout("channels-last-whole", (6, 5, 3, 3), (), channels_last),
    Layout("channels-last-none", (6, 5, 3, 3), None, channels_last),
    Layout("transposed", (11, 9), (0,), permuted(1, 0)),
    Layout("transposed-columns", (11, 9), (1,), permuted(1, 0)),
    Layout("permuted-inside", (6, 5, 7), (0,), permuted(0, 2, 1)),
    Layout("permuted-last", (6, 5, 7), (0,), permuted(2, 1, 0)),
    Layout("sliced", (7, 27), (0,), sliced),
    Layout("sliced-1-D", (13,), (0,), sliced),
    Layout("sliced-columns", (9, 11), (1,), sliced),
    Layout("permuted-across", (6, 5, 7), (0,), permuted(1, 0, 2), blocks=False),
    Layout("strided", (7, 9), (0,), strided, blocks=False),
    Layout("strided-1-D", (13,), (0,), strided, blocks=False),
    Layout("strided-none", (7, 9), None, strided, blocks=False),
]
LAYOUTS = SHAPES + CHANNELS + STRIDES
