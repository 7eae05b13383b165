"""The guide's blocks are one script that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# Of ours.
NO_WARNINGS = """
import warnings
warnings.filterwarnings("error", "AdamSRT|weight_decay|the reference")
"""
GUIDE = Path(__file__).parent.parent / "docs" / "training.md"


def test_the_guide_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert blocks
    script = tmp_path / "guide.py"  # a file, where rules and compilers find its source
    script.write_text("\n".join([NO_WARNINGS, *blocks]))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
