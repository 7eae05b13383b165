"""How programs hold segments, and how many programs that takes: sizes as data."""

from __future__ import annotations

from typing import NamedTuple

from sphere_fused.check import MAKES_MOMENT


class Shape(NamedTuple):
    """How a program holds segments; segments.py says what the fields mean."""

    rows: int
    cols: int
    held: bool
    across: bool
    vector: int
    single: bool
    split: bool = False

    def code(self) -> int:
        logarithms = (n.bit_length() - 1 for n in (self.rows, self.cols, self.vector))
        flags = (self.held, self.across, self.single, self.split)
        fields = (*logarithms, sum(flag << i for i, flag in enumerate(flags)))
        return sum(field << 4 * i for i, field in enumerate(fields))


class Sizes(NamedTuple):
    """Numbers of elements that a program holds at once, all powers of two."""

    single: int  # where nothing is summed
    rows: int  # of several rows
    row: int  # of the longest row that stays on chip
    chunk: int  # of longer ones at a time


# By the bytes of a number of the arithmetic and by whether loads are 16 bytes wide. `make tune`
# compares others.
SIZES = {
    (4, True): Sizes(single=2048, rows=2048, row=2048, chunk=1024),
    (4, False): Sizes(single=1024, rows=512, row=1024, chunk=512),
    (8, True): Sizes(single=1024, rows=1024, row=1024, chunk=512),
    (8, False): Sizes(single=512, rows=256, row=512, chunk=256),
}
ACROSS = 32  # neighbouring segments that a program takes where these lie across memory
SHORTEST_ROW = 4
# Segments of more than two parts are summed and stepped by a program per part, in two launches.
PART = 32768


def power_of_two(n: int) -> int:
    """The smallest that is at least n."""
    return 1 << (n - 1).bit_length()


def shape_of(
    elementwise: bool, dim: int, inner: int, size: int, vector: int, direction: str
) -> Shape:
    """How programs hold a tensor of that Geometry, with `size` bytes to a number of the arithmetic
    and addresses that are multiples of `vector` elements; `elementwise`: it has no segments."""
    if (dim if inner == 1 else inner) % vector:
        vector = 1
    sizes = SIZES[size, vector > 1]
    split = dim > 2 * PART
    if elementwise:
        return Shape(sizes.single, 1, held=True, across=True, vector=vector, single=True)
    cols = max(power_of_two(dim), SHORTEST_ROW)
    many_sums = direction not in MAKES_MOMENT
    several = sizes.rows // (2 if direction == "previous" else 1)  # which holds g too
    if inner > 1:
        rows = min(power_of_two(inner), ACROSS)
        most = min(sizes.chunk, several // 2)
        most //= 2 if many_sums else 1
        held = rows * cols <= most
        cols = cols if held else most // rows
        return Shape(rows, cols, held, across=True, vector=vector, single=False, split=split)
    if cols > sizes.row:
        in_double = split or (many_sums and size == 8)
        chunk = sizes.chunk // 2 if in_double else sizes.chunk
        return Shape(1, chunk, False, False, vector, single=False, split=split)
    rows = max(several // cols, 1)
    return Shape(rows, cols, held=True, across=False, vector=vector, single=False)


def pieces_of(shape: Shape, outer: int, dim: int, inner: int) -> int:
    whole = outer * -(-inner // shape.rows) if shape.across else -(-outer // shape.rows)
    return whole * -(-dim // PART) if shape.split else whole
