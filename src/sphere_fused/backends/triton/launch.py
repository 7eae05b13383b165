"""A kernel that is launched again and again, and how it is compiled."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import triton

log = logging.getLogger("sphere_fused")

THREADS = 128
# On NVIDIA GPUs, where three programs then fit on a multiprocessor; Triton 3.8 spills at 128, with
# which four would. Triton would take a few more than it needs.
REGISTERS = {4: 144, 8: 168}


class Launch:
    """A kernel with its arguments, to be launched again and again."""

    def __init__(
        self, kernel: Any, programs: int, size: int, *arguments: Any, rules: Sequence[str] = ()
    ) -> None:
        self._arguments, grid = arguments, (programs, 1, 1)
        if not isinstance(kernel, triton.JITFunction):
            self._launch = kernel[grid]  # interpreted
            return
        start = time.perf_counter()
        target = triton.runtime.driver.active.get_current_target()
        warp = target.warp_size
        options = {"num_warps": THREADS // warp, "enable_fp_fusion": True}
        if isinstance(target.arch, int):
            options["maxnreg"] = REGISTERS[size]
        try:
            compiled = kernel.warmup(*arguments, grid=grid, **options)
        except triton.CompilationError as error:
            raise RuntimeError(
                f"Triton {triton.__version__} could not compile {', '.join(rules) or 'a kernel'}, "
                f"for the reason above; backend='reference' steps it. Please report it."
            ) from error
        # Several times faster than kernel[grid], which looks at every argument anew.
        self._launch = compiled[grid]
        name, seconds = kernel.__name__, time.perf_counter() - start
        log.debug("Triton's kernel %s was ready after %.2f s", name, seconds)

    def __call__(self) -> None:
        self._launch(*self._arguments)
