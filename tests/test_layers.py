"""The contracts of .importlinter hold: what each package may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_import_contracts() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    got = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert got.returncode == 0, got.stdout + got.stderr
