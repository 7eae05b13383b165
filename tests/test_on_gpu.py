"""How a plan's share of a GPU is kept there, with a GPU that is only played."""

from __future__ import annotations

import contextlib
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stepping import assert_unchanged, make, random, snapshot

from sphere_fused import plan as planning
from sphere_fused.backends import native as native_backend
from sphere_fused.hyper import GroupHyper


class Gpu:
    """Plays torch.cuda and the compiled module, and notes what it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream, self.capturing, self.dtype, self.layouts = 1, False, "float32", 0
        self.steps: list[tuple[int, str, int]] = []
        self.groups: list[list[Any]] = []
        self.told_capturing: list[bool] = []
        gpu = self

        class CudaSteps:
            def __init__(self, *_: Any) -> None:
                self.dtype = gpu.dtype
                gpu.layouts += 1

            def image(self) -> bytes:
                return self.dtype.encode()

            def memory_bytes(self) -> int:
                return len(self.image()) + 7

            def fits(self, _: Any) -> bool:
                return self.dtype == gpu.dtype

            def step(
                self,
                _plan: Any,
                groups: list[Any],
                memory: int,
                stream: int,
                _most: int,
                capturing: bool,
            ) -> None:
                assert memory == gpu.on_gpu._memory.data_ptr()
                held = bytes(gpu.on_gpu._memory.tolist())
                assert len(held) == self.memory_bytes()
                assert held.startswith(self.image())
                gpu.steps.append((gpu.layouts, self.dtype, stream))
                gpu.groups.append(groups)
                gpu.told_capturing.append(capturing)

        monkeypatch.setattr(
            native_backend.planning, "compiled", SimpleNamespace(CudaSteps=CudaSteps)
        )
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
        self.plan(capturable=True)

    def plan(self, capturable: bool) -> None:
        entries = [SimpleNamespace(capturable=True), SimpleNamespace(capturable=capturable)]
        plan: Any = SimpleNamespace(native=None, entries=entries)
        self.step = self.on_gpu = native_backend.OnGpu(plan, torch.device("cpu"), [0, 1])


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
        short_of_memory.setattr(torch, "empty", fail)
        with pytest.raises(torch.OutOfMemoryError):
            gpu.step([])
    gpu.step([])  # the played module asserts that memory and table belong together
    assert gpu.steps[-1][1] == "bfloat16"


def test_capturing_needs_capturable_groups(gpu: Gpu) -> None:
    gpu.plan(capturable=False)
    gpu.step([])
    gpu.capturing = True
    with pytest.raises(RuntimeError, match="make the optimizer with capturable=True"):
        gpu.step([])
    assert gpu.told_capturing == [False]


@pytest.mark.parametrize("dtypes", [["float32"], ["float32", "bfloat16"]], ids=["first", "dtype"])
def test_nothing_is_laid_out_while_capturing(gpu: Gpu, dtypes: list[str]) -> None:
    *before, while_capturing = dtypes
    for gpu.dtype in before:
        gpu.step([])
    gpu.capturing, gpu.dtype = True, while_capturing
    with pytest.raises(RuntimeError, match="take one step outside the graph first"):
        gpu.step([])
    assert gpu.layouts == len(gpu.steps) == len(before)


def test_a_captured_table_is_kept_for_good(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_backend, "_captured", {})
    gpu.step([])
    kept = weakref.ref(gpu.on_gpu._memory)
    gpu.capturing, gpu.stream = True, 2
    gpu.step([])
    gpu.step([])
    assert gpu.told_capturing == [False, True, True]
    assert gpu.recorded == []  # what is never freed need not wait for a stream
    assert [memory is kept() for memory in native_backend._captured.values()] == [True]
    gpu.capturing, gpu.stream = False, 1
    gpu.step([])
    gpu.plan(capturable=True)
    gpu.step([])
    assert kept() is not None
    native_backend._captured.clear()
    assert kept() is None  # so it was that which kept it


def group_hyper(**tensors: Any) -> GroupHyper:
    return GroupHyper(0.1, 0.9, 0.1, 0.99, 1e-8, 0.01, True, 5.0)._replace(**tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tensors_are_passed_by_address(gpu: Gpu, dtype: torch.dtype) -> None:
    lr, scale, found = torch.tensor([0.1], dtype=dtype), torch.tensor(8.0), torch.tensor(0.0)
    numbers = group_hyper()
    gpu.step([numbers, group_hyper(lr=lr, grad_scale=scale, found_inf=found)])
    assert gpu.groups[0][0] == numbers
    assert gpu.groups[0][1] == numbers._replace(
        lr=(lr.data_ptr(), dtype == torch.float64),
        grad_scale=(scale.data_ptr(), False),
        found_inf=(found.data_ptr(), False),
    )
    # A step under which they lie still sends nothing new.
    gpu.step([numbers, group_hyper(lr=lr, grad_scale=scale, found_inf=found)])
    assert gpu.groups[1] == gpu.groups[0]


def test_tensors_elsewhere_are_moved_once_for_all_groups(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A played move, which changes what is of another dtype than the kernels read."""
    gpu.step([])
    moves = []
    move = torch.Tensor.to

    def to(tensor: torch.Tensor, device: Any, dtype: torch.dtype, non_blocking: bool) -> Any:
        assert non_blocking
        moves.append((tensor.dtype, dtype, weakref.ref(moved := move(tensor, dtype, copy=True))))
        return moved

    class Alive(list):
        """What was moved must be alive when the compiled module is called."""

        def append(self, groups: Any) -> None:
            assert all(moved() is not None for *_, moved in moves)
            super().append(groups)

    gpu.groups = Alive()
    monkeypatch.setattr(torch.Tensor, "to", to)
    lr = torch.tensor(0.5, dtype=torch.bfloat16)
    scale = torch.tensor(8.0, dtype=torch.float64)
    gpu.step([group_hyper(lr=lr, grad_scale=scale) for _ in range(3)])
    assert [m[:2] for m in moves] == [
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
    ]
    assert all(moved() is None for *_, moved in moves)


def test_the_compiled_module_takes_addresses(native: str) -> None:
    plan = planning.compiled.Plan()
    numbers = group_hyper()
    there = numbers._replace(lr=(64, True), grad_scale=(64, False), found_inf=(64, False))
    plan.step([numbers, there], 1)
    for wrong in (
        numbers[:8],
        numbers._replace(grad_scale=(64, True)),
        numbers._replace(found_inf=(64, True)),
        numbers._replace(lr=("64", True)),
        numbers._replace(lr="0.1"),
    ):
        with pytest.raises(TypeError):
            plan.step([wrong], 1)


@pytest.mark.parametrize("steps_before", [0, 1])
@pytest.mark.parametrize("capturable", [False, True])
def test_no_state_is_made_while_capturing(
    capturable: bool, steps_before: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph would make it again at every replay."""
    params = [random(4, 3, seed=1), random(4, 3, seed=2)]
    optimizer = make("AdamSRT", params, backend, capturable=capturable)
    for _ in range(steps_before):
        params[0].grad = torch.ones(4, 3)
        optimizer.step()
    for p in params:
        p.grad = torch.ones(4, 3)
    before = snapshot(optimizer)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _: True))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    what = "take one step outside the graph first" if capturable else "capturable=True"
    with pytest.raises(RuntimeError, match=what):
        optimizer.step()
    assert_unchanged(optimizer, before)


def test_capturable_may_change(backend: str) -> None:
    p = random(4, 3, seed=1)
    p.grad = torch.ones(4, 3)
    optimizer = make("AdamSRT", [p], backend)
    for capturable in (False, True, False):
        optimizer.param_groups[0]["capturable"] = capturable
        optimizer.step()
        assert [e.capturable for e in optimizer._prepared.plan.entries] == [capturable]
