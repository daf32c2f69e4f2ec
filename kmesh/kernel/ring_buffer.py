"""Reading a BPF ring buffer through its memory, as one consumer.

The kernel writes records behind each other and moves the producer's position; the consumer moves its own, which frees
what lies before. Each position is one aligned word, read and written whole. The map's descriptor is readable while
there is something to take, so an event loop can wait for it.

A record is committed before the producer's position is seen beyond it only on machines that keep the order of writes
(x86-64); elsewhere the busy bit in its header is looked at last, and what follows depends on it.

Source: Documentation/bpf/ringbuf.rst, kernel/bpf/ringbuf.c.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

__all__ = ["RingBuffer"]

_PAGE = mmap.PAGESIZE
_BUSY, _DISCARD = 1 << 31, 1 << 30
_HEADER = 8


class RingBuffer:
    """Of the map `fd`, of `size` bytes (a power of two). Raises OSError."""

    def __init__(self, fd: int, size: int) -> None:
        self._mask = size - 1
        self._own = mmap.mmap(fd, _PAGE)
        self._data = mmap.mmap(fd, _PAGE + 2 * size, prot=mmap.PROT_READ, offset=_PAGE)
        # casts move a word by one load or store, which struct does not promise
        self._consumer = memoryview(self._own).cast("Q")
        self._producer = memoryview(self._data)[:8].cast("Q")
        self._headers = memoryview(self._data)[_PAGE:].cast("I")

    def take(self) -> Iterator[bytes]:
        """What was committed up to now, in order. Each is taken when the next is asked for, or the end.

        What comes meanwhile is the next call's: who produces as fast as this consumes would keep the caller for ever.
        """
        position, end = self._consumer[0], self._producer[0]
        while position < end:
            at = position & self._mask
            length = self._headers[at // 4]
            if length & _BUSY:
                return
            size = length & ~_DISCARD
            if not length & _DISCARD:
                start = _PAGE + at + _HEADER
                yield self._data[start : start + size]
            position += (_HEADER + size + 7) & ~7
            self._consumer[0] = position

    def close(self) -> None:
        """Unmap; the map's descriptor stays the caller's."""
        for view in (self._consumer, self._producer, self._headers):
            view.release()
        self._own.close()
        self._data.close()
