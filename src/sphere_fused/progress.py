"""Tells on standard error how far a command has come."""

from __future__ import annotations

import sys
import time


class Progress:
    """A bar on a terminal; elsewhere, such as in a log, a line per tenth of the work."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.shown, self.width = total, 0, 0, 0
        self.start = time.perf_counter()

    def advance(self, label: str) -> None:
        self.done += 1
        share = self.done / self.total
        left = (time.perf_counter() - self.start) * (1 / share - 1)
        text = f"{share:4.0%}  {label}, about {left:.0f} s left"
        if sys.stderr.isatty():
            bar = "#" * round(30 * share)
            line = f"[{bar:<30}] {text}"
            end = "\n" if self.done == self.total else ""
            print(f"\r{line:<{self.width}}", end=end, file=sys.stderr, flush=True)
            self.width = len(line)
        elif int(10 * share) > self.shown:
            self.shown = int(10 * share)
            print(text, file=sys.stderr, flush=True)
