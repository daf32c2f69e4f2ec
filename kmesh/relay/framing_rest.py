"""Where an answer goes on that the kernel left: from its phase (kmesh.records.constants) to a framer.

The kernel leaves between two bytes, which may be within a line of a chunk; a framer reads lines whole. So what was
already delivered of a line is put before what comes, and never sent.
"""

from __future__ import annotations

from typing import assert_never

from kmesh.records.constants import BodyPhase
from kmesh.relay.framing import ChunkFramer, Framer, LengthFramer, State

__all__ = ["continue_framer"]

_SIZE, _DATA, _TRAILER = 0, 1, 2
"""Phases of ChunkFramer."""
_END_OF_DATA = 2
"""CR LF, which ChunkFramer counts with the chunk."""


def continue_framer(phase: BodyPhase, remaining: int) -> Framer:
    """Of the bytes that the kernel did not deliver."""
    match phase:
        case BodyPhase.LENGTH:
            return LengthFramer(remaining)
        case BodyPhase.SIZE:
            return ChunkFramer()
        case BodyPhase.DIGITS:
            return _WithinLine(b"%x" % remaining, ChunkFramer())
        case BodyPhase.SIZE_END:
            return _WithinLine(b"%x\r" % remaining, ChunkFramer())
        case BodyPhase.DATA | BodyPhase.DATA_CR:
            return ChunkFramer(_DATA, remaining + _END_OF_DATA)
        case BodyPhase.DATA_LF:
            return ChunkFramer(_DATA, 1)
        case BodyPhase.TRAILER:
            return ChunkFramer(_TRAILER)
        case BodyPhase.LAST_LF:
            return _WithinLine(b"\r", ChunkFramer(_TRAILER))
        case BodyPhase.END:
            return LengthFramer(0)
        case _:
            assert_never(phase)


class _WithinLine:
    """`before` was delivered of the line that comes."""

    def __init__(self, before: bytes, behind: ChunkFramer) -> None:
        self._before, self._behind = before, behind

    @property
    def state(self) -> State:
        return self._behind.state

    @property
    def is_done(self) -> bool:
        return self._behind.is_done

    @property
    def needs(self) -> int:
        return max(self._behind.needs - len(self._before), 0 if self.is_done else 1)

    def walk(self, received: memoryview) -> int:
        if not self._before:
            return self._behind.walk(received)
        taken = self._behind.walk(memoryview(self._before + bytes(received)))
        if taken:
            taken, self._before = taken - len(self._before), b""
        return taken

    def end(self) -> None:
        self._behind.end()
