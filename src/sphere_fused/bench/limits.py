"""What keeps a run from taking too long, or too much memory."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch

MEMORY_KEPT = 2**30  # bytes that nobody is to take


class Clock:
    rang = False


class TooLong(Exception):
    pass


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[Clock]:
    """Ends the block after so long, where Python runs in it; the clock tells whether it did.

    Without effect outside of the main thread, and on systems without such a timer.
    """
    clock = Clock()
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "setitimer")):
        yield clock
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        clock.rang = True
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield clock
    except TooLong:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def free_memory(device: str) -> int | None:
    """Bytes, or None where that is not told."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.exists() else []
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(available[0]) if available else None
