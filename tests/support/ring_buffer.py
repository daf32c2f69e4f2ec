"""Reading a BPF ring buffer through its memory. Source: Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

__all__ = ["RingBuffer"]

_PAGE = mmap.PAGESIZE
_BUSY, _DISCARD = 1 << 31, 1 << 30
_HEADER = 8
_POSITION = struct.Struct("<Q")


class RingBuffer:
    """One consumer. The descriptor is readable while there is something to take."""

    def __init__(self, fd: int, size: int) -> None:
        self._mask = size - 1
        self._own = mmap.mmap(fd, _PAGE)
        self._data = mmap.mmap(fd, _PAGE + 2 * size, prot=mmap.PROT_READ, offset=_PAGE)

    def take(self) -> Iterator[bytes]:
        """What was committed, in order."""
        (position,) = _POSITION.unpack_from(self._own)
        while position < _POSITION.unpack_from(self._data)[0]:
            at = _PAGE + (position & self._mask)
            (length,) = struct.unpack_from("<I", self._data, at)
            if length & _BUSY:
                return
            length &= ~_DISCARD
            record = self._data[at + _HEADER : at + _HEADER + length]
            position += (_HEADER + length + 7) & ~7
            _POSITION.pack_into(self._own, 0, position)
            yield record
