from collections.abc import Callable, Iterator

import pytest
import torch

from sphere_fused.backends import BACKENDS


def skip_unless_available(name: str) -> str:
    reasons = BACKENDS[name].unavailable(torch.device("cpu"))
    if reasons:
        pytest.skip(f"the {name} backend cannot run here: {'; '.join(reasons)}")
    return name


@pytest.fixture(params=["reference", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend that must agree with the oracle."""
    return skip_unless_available(request.param)


@pytest.fixture
def native() -> str:
    """For what only the compiled backend does."""
    return skip_unless_available("native")


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
