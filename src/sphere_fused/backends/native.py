"""The compiled backend: C++ on CPUs, CUDA on NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sphere_fused import plan as planning  # as a module: tests take its `compiled` away
from sphere_fused.entry import Entry
from sphere_fused.hyper import GroupHyper, placed
from sphere_fused.plan import Plan, check_capture

NAME = "native"
# Blocks of one launch; CUDA takes no more.
MOST_BLOCKS = 2**31 - 1
CPU = torch.device("cpu")
# Tables of steps that were captured, by address: a graph may be replayed at any time, and does not
# tell when it is gone.
_captured: dict[int, torch.Tensor] = {}
# GPUs that the kernels are known to run on.
_usable: set[int] = set()


def unavailable(device: torch.device) -> list[str]:
    if planning.compiled is None:
        return [
            f"the compiled module is missing: {planning.compiled_import_error} (it is built by "
            "`pip install .` with a C++20 compiler and without SPHERE_FUSED_NATIVE=0)"
        ]
    if device.type == "cpu":
        return []
    if device.type != "cuda":
        return [f"it has no kernels for {device.type} tensors"]
    problem = cuda_problem(device.index or 0)
    return [problem] if problem else []


def cuda_problem(device: int) -> str:
    """What keeps the kernels from running on that GPU, or ''. Initializes CUDA."""
    if device in _usable:
        return ""
    compiled: Any = planning.compiled
    if not hasattr(compiled, "cuda_problem"):
        return f"the CUDA kernels were {compiled.BUILD['CUDA']}"
    if torch.version.hip is not None:
        return "it has no kernels for AMD GPUs"
    if not torch.cuda.is_available():
        return compiled.cuda_problem(device) or f"torch {torch.__version__} finds no GPU"
    with torch.cuda.device(device):
        problem = str(compiled.cuda_problem(device))
    if not problem:
        _usable.add(device)
    return problem


def reasons(entry: Entry) -> list[str]:
    found = unavailable(entry.param.device)
    if planning.compiled is None:
        return found
    if entry.geometry is None:
        found.append(
            f"shape {tuple(entry.param.shape)} with strides {entry.param.stride()} and segments "
            f"over dims {entry.inside} does not lie in memory as blocks of segments"
        )
    if entry.rule.key not in planning.compiled.RULES:
        found.append(f"the rule '{entry.rule.name}' is not compiled in")
    return found


def prepare(plan: Plan, indices: list[int]) -> Callable[[list[GroupHyper]], None]:
    by_device: dict[torch.device, list[int]] = {}
    for i in indices:
        by_device.setdefault(plan.entries[i].param.device, []).append(i)
    on_cpu = by_device.pop(CPU, [])
    runs: list[Callable[[list[GroupHyper]], None]] = [
        OnGpu(plan, device, members) for device, members in by_device.items()
    ]
    if on_cpu:
        plan.native.claim(on_cpu)
        runs.append(lambda hypers: step_on_cpu(plan, hypers))

    def run(hypers: list[GroupHyper]) -> None:
        for each in runs:
            each(hypers)

    return run


def step_on_cpu(plan: Plan, hypers: list[GroupHyper]) -> None:
    numbers = [hyper.on(CPU) for hyper in hypers]
    if numbers[0].found_inf == 0.0:
        plan.native.step(numbers, torch.get_num_threads())


class OnGpu:
    """The steps of a plan's entries on one GPU: a table in its memory, and what is enqueued."""

    def __init__(self, plan: Plan, device: torch.device, indices: list[int]) -> None:
        self._plan, self._device, self._indices = plan, device, indices
        self._capturable = all(plan.entries[i].capturable for i in indices)
        self._steps: Any = None
        self._memory: torch.Tensor
        self._stream: torch.cuda.Stream

    def __call__(self, hypers: list[GroupHyper]) -> None:
        with torch.cuda.device(self._device):
            capturing = torch.cuda.is_current_stream_capturing()
            laid_out = self._steps is not None and self._steps.fits(self._plan.native)
            if capturing:
                check_capture(self._capturable, laid_out)
                _captured[self._memory.data_ptr()] = self._memory
            elif not laid_out:
                self._lay_out(len(hypers))
            stream = torch.cuda.current_stream()
            if stream != self._stream and not capturing:
                # Its memory must not be handed out again while a step is still on that stream.
                self._memory.record_stream(stream)
                self._stream = stream
            with_addresses, _held = placed(hypers, self._device)
            self._steps.step(
                self._plan.native,
                with_addresses,
                self._memory.data_ptr(),
                stream.cuda_stream,
                MOST_BLOCKS,
                capturing,
            )

    def _lay_out(self, groups: int) -> None:
        compiled: Any = planning.compiled
        steps = compiled.CudaSteps(self._plan.native, self._device.index, self._indices, groups)
        image = torch.frombuffer(bytearray(steps.image()), dtype=torch.uint8)
        memory = torch.empty(steps.memory_bytes(), dtype=torch.uint8, device=self._device)
        memory[: len(image)].copy_(image)
        # Together, because either may fail for want of memory, and a step be tried again.
        self._steps, self._memory = steps, memory
        self._stream = torch.cuda.current_stream()
