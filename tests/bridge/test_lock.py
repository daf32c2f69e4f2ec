"""The instance lock, between real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmesh.bridge.lock import hold_lock
from kmesh.errors import ConfigError

HOLDER = """
import sys
from pathlib import Path
from kmesh.bridge.lock import hold_lock
with hold_lock(Path(sys.argv[1]), "blue"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    return holder


def test_the_second_is_told_who_holds_it_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start_holder(path)
    try:
        with pytest.raises(ConfigError) as e, hold_lock(path, "blue"):
            pass
        assert str(e.value) == (
            f"instance 'blue' is already run by process {holder.pid}: "
            "stop it, or choose another name with --instance"
        )
    finally:
        holder.kill()
        holder.communicate()
    with hold_lock(path, "blue"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_program_started_by_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_lock(path, "blue"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with hold_lock(path, "blue"):
            pass
    finally:
        child.kill()
        child.wait()


def test_the_holder_of_an_unwritten_lock_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start_holder(path)
    try:
        path.write_text("")
        with pytest.raises(ConfigError, match="already run by another process"), hold_lock(path, "blue"):
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "lock"
    with pytest.raises(ConfigError, match=f"cannot open the lock file {path}"), hold_lock(path, "blue"):
        pass
