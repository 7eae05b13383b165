"""10,000 random parameters, with others in random groups, against the oracle."""

from __future__ import annotations

import pytest
from configurations import check

# A backend, where its numbers begin, and how many parameters. The interpreter of Triton is slow.
BLOCKS = [
    *[("native", 1000 * block, 500) for block in range(20)],
    *[("reference", 1000 * block, 500) for block in range(4)],
    ("triton", 0, 50),
]


@pytest.mark.parametrize(("backend", "first", "count"), BLOCKS, indirect=["backend"])
def test_random_configurations(backend: str, first: int, count: int) -> None:
    """To run one that failed again: PYTHONPATH=src python tests/configurations.py BACKEND NUMBER"""
    number, parameters = first, 0
    while parameters < count:
        parameters += check(number, backend)
        number += 1
