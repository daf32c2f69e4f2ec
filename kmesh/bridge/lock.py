"""The lock that keeps two bridges from running one instance. However its process ends, the kernel drops it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmesh.errors import ConfigError

__all__ = ["hold_lock"]


@contextmanager
def hold_lock(path: Path, instance: str) -> Iterator[None]:
    """Hold the lock file `path`, made if need be, which then contains this process's id.

    The file stays: removing it would let a third process lock a new one while a second holds the old. Only a fork
    shares the lock; a program that this process executes does not.

    Raises: ConfigError when another process holds it, naming that process, or when the file cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise ConfigError(f"cannot open the lock file {path} ({e.strerror}): correct its directory") from None
    try:
        _lock(fd, instance)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, instance: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
        holder = f"process {pid}" if pid.isdigit() else "another process"
        raise ConfigError(
            f"instance {instance!r} is already run by {holder}: stop it, or choose another name with --instance"
        ) from None
