"""A GPU for Triton that compiles and launches nothing, to run the host's side without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import triton
from triton.backends.compiler import GPUTarget


class Driver:
    """Stands where Triton expects the driver of a GPU; notes every launch."""

    def __init__(self, backend: str = "cuda", arch: int | str = 90, warp: int = 32) -> None:
        self.target = GPUTarget(backend, arch, warp)
        self.launches: list[tuple[Any, ...]] = []
        self.loaded: list[str] = []
        self.utils = SimpleNamespace(
            load_binary=self._load,
            unload_module=lambda module: None,
            get_device_properties=lambda device: {"max_shared_mem": 2**16},
        )

    def _load(self, name: str, *_: Any) -> tuple[Any, ...]:
        self.loaded.append(name)
        return object(), len(self.loaded), 0, 0, 1024

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        return lambda *arguments: self.launches.append(arguments)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int) -> int:
        return 0


def install(*target: Any) -> Driver:
    driver = Driver(*target)
    triton.runtime.driver.set_active(driver)
    return driver
