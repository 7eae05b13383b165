"""The blocks of each guide are one script that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
# Of ours.
NO_WARNINGS = """
import warnings
warnings.filterwarnings("error", "Adam|SGD|Lion|LAMB|LARS|weight_decay|the reference")
"""
# Has all that the last block makes step what it was given.
STEP = """
before = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
for group in optimizer.param_groups:
    for p in group["params"]:
        p.grad = torch.randn_like(p)
optimizer.step()
after = [p for group in optimizer.param_groups for p in group["params"]]
assert not any(torch.equal(p, q) for p, q in zip(before, after))
"""
MUON_STEP = """
norms = [p.norm().item() for p in matrices]
for p in matrices:
    p.grad = torch.randn_like(p)
before = [p.detach().clone() for p in matrices]
muon_step()
for p, q, norm in zip(matrices, before, norms):
    moved = (p - q).norm().item() / norm
    assert abs(p.norm().item() / norm - 1) < 1e-5 and 0.01 < moved < 0.021
"""


def blocks_of(guide: str) -> list[str]:
    found = re.findall(r"```python\n(.*?)```", (DOCS / guide).read_text(), re.DOTALL)
    assert found
    return found


def run(script: Path, blocks: list[str]) -> None:
    script.write_text("\n".join([NO_WARNINGS, *blocks]))  # where compilers find their source
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=script.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_guide_to_training_runs(tmp_path: Path) -> None:
    run(tmp_path / "guide.py", blocks_of("training.md"))


def test_the_guide_to_choosing_runs(tmp_path: Path) -> None:
    blocks = []
    for block in blocks_of("choosing.md"):
        blocks.append(block)
        if block.startswith("optimizer =") or "\noptimizer =" in block:
            blocks.append(STEP)
        elif "def muon_step" in block:
            blocks.append(MUON_STEP)
    assert blocks.count(STEP) == 8
    assert blocks.count(MUON_STEP) == 1
    run(tmp_path / "guide.py", blocks)
