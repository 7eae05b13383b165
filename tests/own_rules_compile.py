"""Compiles the rules of test_own_rules.py for a GPU that is not here, and tells how many it made.

python own_rules_compile.py
"""

from __future__ import annotations

import triton_stub
from test_own_rules import RULES, all_numbers, namesakes, stepped

from sphere_fused.backends import triton as backend
from sphere_fused.backends.triton import kernels

if __name__ == "__main__":
    triton_stub.install()
    backend.unavailable = lambda device: []
    for step in (*RULES, all_numbers, *namesakes().values()):
        stepped(step, "triton")
    print(sum(len(caches[0]) for caches in kernels.step_all.device_caches.values()))
