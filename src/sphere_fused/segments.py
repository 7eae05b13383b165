"""Where the segments of a tensor lie in memory, and which tensors share memory."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch

# The dims of a tensor that lie inside one segment.
Dims: TypeAlias = tuple[int, ...]


class Geometry(NamedTuple):
    """A dense tensor in memory order: element (o, d, i) of segment (o, i) at (o*dim + d)*inner + i.

    inner is 1 where every segment is one contiguous block.
    """

    outer: int
    dim: int
    inner: int


def inside_segment(tensor: torch.Tensor, channel_dims: Sequence[int] | None, name: str) -> Dims:
    """The dims of `tensor` that lie inside one segment: all that `channel_dims` does not name."""
    if channel_dims is None or tensor.dim() == 0:
        return ()
    channels = [d + tensor.dim() if d < 0 else d for d in channel_dims]
    if any(not 0 <= d < tensor.dim() for d in channels):
        raise ValueError(
            f"channel_dims={tuple(channel_dims)} names a dim that {name} lacks: its shape is "
            f"{tuple(tensor.shape)}. Give it a group of its own with channel_dims it has, or None."
        )
    if len(set(channels)) != len(channels):
        raise ValueError(f"channel_dims={tuple(channel_dims)} names a dim of {name} twice")
    return tuple(d for d in range(tensor.dim()) if d not in channels)


def memory_order(tensor: torch.Tensor) -> list[int]:
    """The dims of `tensor` with more than one element, outermost in memory first."""
    wide = [d for d in range(tensor.dim()) if tensor.shape[d] > 1]
    return sorted(wide, key=tensor.stride, reverse=True)


def is_dense(tensor: torch.Tensor) -> bool:
    """True if the elements of `tensor` fill one block of memory, each address once."""
    expected = 1
    for d in reversed(memory_order(tensor)):
        if tensor.stride(d) != expected:
            return False
        expected *= tensor.shape[d]
    return True


def geometry(tensor: torch.Tensor, inside: Dims) -> Geometry | None:
    """How the segments of `tensor` lie in memory, or None if no Geometry can describe it."""
    if not is_dense(tensor):
        return None
    runs = [
        (is_inside, math.prod(tensor.shape[d] for d in dims))
        for is_inside, dims in itertools.groupby(memory_order(tensor), lambda d: d in inside)
    ]
    sizes = [size for _, size in runs]
    match [is_inside for is_inside, _ in runs]:
        case []:
            return Geometry(1, 1, 1)
        case [False]:
            return Geometry(sizes[0], 1, 1)
        case [True]:
            return Geometry(1, sizes[0], 1)
        case [False, True]:
            return Geometry(sizes[0], sizes[1], 1)
        case [True, False]:
            return Geometry(1, sizes[0], sizes[1])
        case [False, True, False]:
            return Geometry(*sizes)
    return None


def zeros_per_segment(tensor: torch.Tensor, inside: Dims, dtype: torch.dtype) -> torch.Tensor:
    """Zeros in the shape of `tensor` with size 1 inside segments, in the tensor's memory order."""
    shape = [1 if d in inside else n for d, n in enumerate(tensor.shape)]
    strides = [1] * len(shape)
    stride = 1
    for d in reversed(memory_order(tensor)):
        strides[d] = stride
        stride *= shape[d]
    return torch.empty_strided(shape, strides, dtype=dtype, device=tensor.device).zero_()


def norms_of_segments(tensor: torch.Tensor, inside: Dims) -> torch.Tensor:
    """In float64, with size 1 inside segments."""
    # With a dim more, because no dims would mean all of them.
    dims = (*inside, tensor.dim())
    wide = tensor.to(torch.float64).unsqueeze(-1)
    # torch's vector_norm adds up one by one, and is off by 1e-14 for 100,000 elements.
    return wide.square().sum(dims, keepdim=True).sqrt().squeeze(-1)


def same_strides(a: torch.Tensor, b: torch.Tensor) -> bool:
    """True if `a` and `b`, of equal shapes, lie alike; strides of dims of size 1 do not count."""
    return all(n == 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True))


def overlaps_itself(tensor: torch.Tensor) -> bool:
    """True if two elements of `tensor` share an address."""
    reach = 0  # the last offset that the dims so far can name
    for d in reversed(memory_order(tensor)):
        if tensor.stride(d) <= reach:
            break
        reach += (tensor.shape[d] - 1) * tensor.stride(d)
    else:
        return False
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    offsets = torch.arange(last + 1).as_strided(tensor.shape, tensor.stride())
    return offsets.unique().numel() < tensor.numel()


def byte_span(tensor: torch.Tensor) -> tuple[int, int]:
    """The first address of `tensor` and the one after its last."""
    steps = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (steps + 1) * tensor.element_size()


def share_elements(a: torch.Tensor, b: torch.Tensor) -> bool:
    """True if two tensors whose spans overlap have a byte in common."""
    if is_dense(a) and is_dense(b):
        return True
    start = min(a.data_ptr(), b.data_ptr())
    touched = torch.zeros(max(byte_span(a)[1], byte_span(b)[1]) - start, dtype=torch.uint8)
    for t in (a, b):
        size = t.element_size()
        strides = [s * size for s in t.stride()] + [1]
        touched.as_strided([*t.shape, size], strides, t.data_ptr() - start).add_(1)
    return bool((touched > 1).any())


class Writes:
    """The memory that a step writes, to find what else lies in it."""

    def __init__(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Raises if two of `tensors` overlap."""
        spans = [(t.device.type, t.device.index or 0, *byte_span(t), n, t) for n, t in tensors]
        filled = (s for s in spans if s[0] != "meta" and s[2] < s[3])
        self._spans = sorted(filled, key=lambda s: s[:4])
        self._reach = [s[:3] for s in self._spans]
        for i, (device, index, _, end, name, tensor) in enumerate(self._spans):
            for other in self._spans[i + 1 :]:
                if other[:3] >= (device, index, end):
                    break
                if share_elements(tensor, other[5]):
                    raise RuntimeError(
                        f"{name} and {other[4]} overlap in memory, so that one step would update "
                        f"the same weights twice: pass the shared parameter once, or clone() one"
                    )

    def overlapping(self, tensor: torch.Tensor) -> str | None:
        """The name of a written tensor that `tensor` shares memory with."""
        start, end = byte_span(tensor)
        device = (tensor.device.type, tensor.device.index or 0)
        last = bisect.bisect_left(self._reach, (*device, end))
        for span in reversed(self._spans[:last]):
            if span[:2] != device:
                break
            if span[3] > start and share_elements(span[5], tensor):
                return span[4]
            if is_dense(span[5]):
                break
        return None

    def addresses(self) -> list[tuple[int, int]]:
        return [(s[2], s[3]) for s in self._spans]
