"""Explicit transcriptions of every optimizer, for tests and for the selftest command."""

from .fixed_radius import hyperball
from .run import DEFAULTS, Trajectory, trajectory

__all__ = ["DEFAULTS", "Trajectory", "hyperball", "trajectory"]
