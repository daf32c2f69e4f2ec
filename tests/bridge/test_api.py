"""kmesh/api is what api/generate writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read_tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root)): path.read_text() for path in files}


def test_generated_code_is_current(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "api" / "generate"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    got, want = read_tree(ROOT / "kmesh" / "api"), read_tree(tmp_path)
    assert got == want, "run api/generate and commit what it writes"
