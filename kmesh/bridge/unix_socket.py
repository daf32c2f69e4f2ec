"""A listening Unix socket at a path: replaces what a dead process left there, never what a living one serves."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kmesh.errors import ConfigError

__all__ = ["listening_at"]

_MODE = 0o600
_BACKLOG = 16


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """A listening socket that only its owner may connect to; whoever opens `path` finds the old one or this one.

    Makes the directory when there is none, and removes `path` at the end unless another process has replaced it.
    Raises: ConfigError when another process listens at `path`, or `path` cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path.parent):
            _check_free(path)
            listener = _listen_and_rename(path)
            inode = path.stat().st_ino
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"cannot listen at {path}: {why}; choose another --api-socket") from error
    with listener:
        yield listener
        with suppress(FileNotFoundError):
            if path.stat().st_ino == inode:
                path.unlink()


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Between asking whether a socket is served and replacing it, no other bridge may do the same."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check_free(path: Path) -> None:
    if path.exists() and not path.is_socket():
        raise ConfigError(f"{path} is not a socket: move it away, or choose another --api-socket")
    if _is_served(path):
        raise ConfigError(
            f"another bridge already serves {path}: stop it, or give this one a name of its own with --instance"
        )


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:  # its queue is full: busy, not dead
            return True
        return True


def _listen_and_rename(path: Path) -> socket.socket:
    """Nobody can connect between bind and listen, so the mode is in force from the first connection."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX)
    try:
        partial.unlink(missing_ok=True)
        listener.bind(str(partial))
        partial.chmod(_MODE)
        listener.listen(_BACKLOG)
        partial.rename(path)
    except OSError:
        listener.close()
        partial.unlink(missing_ok=True)
        raise
    return listener
