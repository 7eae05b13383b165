import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sphere_fused.backends import BACKENDS


def skip_unless_available(name: str) -> str:
    reasons = BACKENDS[name].unavailable(torch.device("cpu"))
    if reasons:
        pytest.skip(f"the {name} backend cannot run here: {'; '.join(reasons)}")
    return name


IN_A_WORKER = "PYTEST_XDIST_WORKER" in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A worker per core, unless -n says otherwise; but a GPU is for one test at a time."""
    if IN_A_WORKER or torch.cuda.is_available() or not config.pluginmanager.hasplugin("xdist"):
        return
    if config.option.numprocesses is None:
        config.option.numprocesses = "logical"
        # Workers begin far apart, so that most files are of one worker.
        config.option.dist = "worksteal"


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports Triton. What compiles its kernels runs in processes of its own.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    if IN_A_WORKER:
        # The cores are taken; tests of threads ask for them.
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`backend` is each backend that must agree with the oracle."""
    own = any("backend" in str(m.args[0]) for m in metafunc.definition.iter_markers("parametrize"))
    if "backend" in metafunc.fixturenames and not own:
        names = ["reference", "native"]
        # On a GPU Triton steps no CPU tensors; tests/test_cuda.py is for that.
        if metafunc.definition.get_closest_marker("interpreted") and not torch.cuda.is_available():
            names.append("triton")
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    return skip_unless_available(request.param)


@pytest.fixture(params=["reference", "triton"])
def open_backend(request: pytest.FixtureRequest) -> str:
    """Each backend that steps any rule."""
    return skip_unless_available(request.param)


@pytest.fixture
def native() -> str:
    """For what only the compiled backend does."""
    return skip_unless_available("native")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if IN_A_WORKER else folder


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def compiled_afresh() -> Iterator[None]:
    """What torch.compile has compiled in one test is none of another's."""
    import torch._dynamo  # takes seconds

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
