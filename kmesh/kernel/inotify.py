"""inotify(7): being told that something happens in a folder. Source: include/uapi/linux/inotify.h."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CREATED", "GONE", "MODIFIED", "OVERFLOWED", "Inotify"]

MODIFIED, CREATED, GONE, OVERFLOWED = 0x2, 0x100, 0x400 | 0x8000, 0x4000
"""IN_MODIFY; IN_CREATE; IN_DELETE_SELF and IN_IGNORED; IN_Q_OVERFLOW: some were not told."""
_EVENT = struct.Struct("iIII")
_BYTES = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """`fd` is readable when there is something to take. Raises OSError."""

    def __init__(self) -> None:
        self.fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._paths: dict[int, Path] = {}

    def watch(self, path: Path, mask: int) -> bool:
        """False when the path is gone, or the user's watches are used up (fs.inotify.max_user_watches)."""
        number: int = _libc.inotify_add_watch(self.fd, os.fsencode(path), mask & ~0x8000)
        if number >= 0:
            self._paths[number] = path
        return number >= 0

    def take(self) -> Iterator[tuple[Path | None, int, str]]:
        """(path that is watched, mask, name inside it or ""); the path is None when events were lost."""
        with contextlib.suppress(BlockingIOError):
            while buffer := os.read(self.fd, _BYTES):
                yield from self._read(buffer)

    def _read(self, buffer: bytes) -> Iterator[tuple[Path | None, int, str]]:
        at = 0
        while at < len(buffer):
            number, mask, _, length = _EVENT.unpack_from(buffer, at)
            name = buffer[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            path = self._paths.get(number)
            if mask & 0x8000:
                self._paths.pop(number, None)
            yield path, mask, os.fsdecode(name)

    def close(self) -> None:
        os.close(self.fd)
