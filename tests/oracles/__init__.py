"""Explicit transcriptions of every optimizer, for tests and for the selftest command."""

from .core import DEFAULTS, Trajectory, trajectory

__all__ = ["DEFAULTS", "Trajectory", "trajectory"]
