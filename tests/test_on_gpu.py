"""How a plan's share of a GPU is kept there, with a GPU that is only played."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sphere_fused.backends import native


class Gpu:
    """Plays torch.cuda and the compiled module, and notes what it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream, self.capturing, self.dtype, self.layouts = 1, False, "float32", 0
        self.steps: list[tuple[int, str, int]] = []
        gpu = self

        class CudaSteps:
            def __init__(self, *_: Any) -> None:
                self.dtype = gpu.dtype
                gpu.layouts += 1

            def image(self) -> bytes:
                return self.dtype.encode()

            def fits(self, _: Any) -> bool:
                return self.dtype == gpu.dtype

            def step(self, _plan: Any, _groups: Any, memory: int, stream: int, _most: int) -> None:
                assert memory == on_gpu._memory.data_ptr()
                assert bytes(on_gpu._memory.tolist()) == self.image()
                gpu.steps.append((gpu.layouts, self.dtype, stream))

        monkeypatch.setattr(native.planning, "compiled", SimpleNamespace(CudaSteps=CudaSteps))
        for name, value in {
            "device": lambda _: contextlib.nullcontext(),
            "is_current_stream_capturing": lambda: self.capturing,
            "current_stream": lambda: SimpleNamespace(cuda_stream=self.stream),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        self.recorded: list[int] = []
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda _, s: self.recorded.append(s.cuda_stream)
        )
        plan: Any = SimpleNamespace(native=None)
        self.step = on_gpu = native.OnGpu(plan, torch.device("cpu"), [0])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def test_it_is_laid_out_once_and_again_for_other_dtypes(gpu: Gpu) -> None:
    gpu.step([])
    gpu.step([])
    gpu.dtype = "bfloat16"
    gpu.step([])
    assert gpu.steps == [(1, "float32", 1), (1, "float32", 1), (2, "bfloat16", 1)]


def test_its_memory_is_kept_while_a_step_is_on_another_stream(gpu: Gpu) -> None:
    for gpu.stream in (1, 2, 2, 1):
        gpu.step([])
    assert [stream for _, _, stream in gpu.steps] == [1, 2, 2, 1]
    assert set(gpu.recorded) >= {2}


@pytest.mark.parametrize("steps_before", [0, 1])
def test_a_failed_layout_can_be_tried_again(
    gpu: Gpu, steps_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(steps_before):
        gpu.step([])
    gpu.dtype = "bfloat16"

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("played")

    with monkeypatch.context() as short_of_memory:
        short_of_memory.setattr(torch.Tensor, "to", fail)
        with pytest.raises(torch.OutOfMemoryError):
            gpu.step([])
    gpu.step([])  # the played module asserts that memory and table belong together
    assert gpu.steps[-1][1] == "bfloat16"


def test_capturing_is_refused(gpu: Gpu) -> None:
    gpu.capturing = True
    with pytest.raises(RuntimeError, match="cannot be captured into a CUDA graph yet"):
        gpu.step([])
    assert gpu.steps == []
