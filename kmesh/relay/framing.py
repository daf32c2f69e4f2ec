"""Where a body ends: pure walkers over its bytes, each with a state of three integers that a slot can hold.

    framer        kind   state (behind it the kind)        ends
    NoBody        1      -, -                              at once
    LengthFramer  2      bytes left, -                     when none is left
    ChunkFramer   3      phase + 4 * trailer bytes, left   behind the empty line after the trailers
    CloseFramer   4      1 when the stream ended, -        with the stream
    BareChunks    5      as ChunkFramer                    as ChunkFramer; what it carries is the data alone

A walker is given bytes that follow those it took before, and takes what belongs to its body. One that takes less than
it is given has reached the end, or waits for the rest of a line: give it that line from its start.

    phase of ChunkFramer     reads                                   then
    SIZE                     hexadecimal digits, extension, CR LF    DATA; TRAILER behind a size of 0
    DATA                     that many bytes, CR LF                  SIZE
    TRAILER                  header lines; an empty line             (done)

Stricter than Envoy, which writes chunks anew: here the same bytes go on, so what another reader could take otherwise
is refused, and so are trailers that would say something else of the message than its head.

Source: RFC 9112 sections 6 and 7.1.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Protocol, assert_never

from kmesh.relay.head import AnswerHead, Body, RequestHead

__all__ = ["BadFraming", "BareChunks", "ChunkFramer", "CloseFramer", "Framer", "LengthFramer", "NoBody", "State"]
__all__ += ["make_framer", "restore_framer"]

State = tuple[int, int, int]
"""The last tells the kind of framer; 0 there: none yet."""

MAX_LINE_BYTES = 4096
"""Of a chunk's size with its extensions, and of one trailer."""
MAX_TRAILER_BYTES = 60 * 1024
"""Of all trailers, as of a head."""
_MAX_SIZE_DIGITS = 15


class BadFraming(Exception):
    """The bytes are no body of this kind."""


class Framer(Protocol):
    @property
    def state(self) -> State:
        """From which another goes on, by restore_framer."""

    @property
    def is_done(self) -> bool: ...

    @property
    def needs(self) -> int:
        """Bytes that must be at hand, at least, for `walk` to take any; 0 when it is done."""

    def walk(self, received: memoryview) -> int:
        """How many bytes of `received` belong to this body; then it stands behind them. Raises: BadFraming."""

    def end(self) -> None:
        """The stream ended. Raises: BadFraming when the body is not complete."""


def make_framer(head: RequestHead | AnswerHead) -> Framer:
    """Of the body behind this head."""
    match head.body:
        case Body.NONE:
            return NoBody()
        case Body.LENGTH:
            return LengthFramer(head.body_length)
        case Body.CHUNKED:
            return ChunkFramer()
        case Body.UNTIL_CLOSE | Body.TUNNEL:
            return CloseFramer()
        case _:
            assert_never(head.body)


def restore_framer(state: State) -> Framer | None:
    """Where one stood; None where there was none yet."""
    match state:
        case (_, _, NoBody.KIND):
            return NoBody()
        case (left, _, LengthFramer.KIND):
            return LengthFramer(left)
        case (phase, left, ChunkFramer.KIND):
            return ChunkFramer(phase % 4, left, phase // 4)
        case (phase, left, BareChunks.KIND):
            return BareChunks(ChunkFramer(phase % 4, left, phase // 4))
        case (has_ended, _, CloseFramer.KIND):
            return CloseFramer(has_ended=bool(has_ended))
        case _:
            return None


class NoBody:
    KIND = 1
    state: State = (0, 0, KIND)
    is_done = True
    needs = 0

    def walk(self, received: memoryview) -> int:
        return 0

    def end(self) -> None:
        pass


class LengthFramer:
    KIND = 2

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def state(self) -> State:
        return self.left, 0, self.KIND

    @property
    def is_done(self) -> bool:
        return self.left == 0

    @property
    def needs(self) -> int:
        return min(self.left, 1)

    def walk(self, received: memoryview) -> int:
        taken = min(self.left, len(received))
        self.left -= taken
        return taken

    def end(self) -> None:
        if self.left:
            raise BadFraming(f"ended {self.left} bytes before its length")


class CloseFramer:
    KIND = 4

    def __init__(self, *, has_ended: bool = False) -> None:
        self.has_ended = has_ended

    @property
    def state(self) -> State:
        return int(self.has_ended), 0, self.KIND

    @property
    def is_done(self) -> bool:
        return self.has_ended

    @property
    def needs(self) -> int:
        return int(not self.has_ended)

    def walk(self, received: memoryview) -> int:
        return len(received)

    def end(self) -> None:
        self.has_ended = True


class _Phase(IntEnum):
    SIZE = 0
    DATA = 1
    TRAILER = 2
    DONE = 3


_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER_LINE = re.compile(
    rb"(?!(?i:content-length|transfer-encoding|host|connection|trailer)[ \t]*:)"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)?\r\n"
)
_UNFINISHED = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\r?")
_END_OF_DATA = b"\r\n"


class ChunkFramer:
    KIND = 3

    def __init__(self, phase: int = _Phase.SIZE, left: int = 0, trailer_bytes: int = 0) -> None:
        self._phase = _Phase(phase)
        self._left = left
        """Of the chunk, with the CR LF behind it, in phase DATA."""
        self._trailer_bytes = trailer_bytes
        self._needs = 1

    @property
    def state(self) -> State:
        return self._phase + 4 * self._trailer_bytes, self._left, self.KIND

    @property
    def is_done(self) -> bool:
        return self._phase is _Phase.DONE

    @property
    def needs(self) -> int:
        return 0 if self.is_done else self._needs

    @property
    def data_left(self) -> int:
        """Bytes of the chunk at hand, without the CR LF behind it."""
        return max(self._left - len(_END_OF_DATA), 0)

    def walk(self, received: memoryview) -> int:
        position = 0
        self._needs = 1
        while position < len(received) and not self.is_done:
            rest = received[position:]
            taken = self._walk_data(rest) if self._phase is _Phase.DATA else self._walk_line(rest)
            if not taken:
                break
            position += taken
        return position

    def end(self) -> None:
        if not self.is_done:
            raise BadFraming("ended before its last chunk")

    def _walk_data(self, rest: memoryview) -> int:
        """The CR LF behind the chunk is looked at byte for byte, as it comes."""
        taken = min(self._left, len(rest))
        left = self._left - taken
        end_seen = _END_OF_DATA[2 - min(self._left, 2) : 2 - min(left, 2)]
        if end_seen and bytes(rest[taken - len(end_seen) : taken]) != end_seen:
            raise BadFraming("a chunk is longer than its size")
        self._left = left
        if not left:
            self._phase = _Phase.SIZE
        return taken

    def _walk_line(self, rest: memoryview) -> int:
        """A whole line, or nothing when it is not complete."""
        pattern = _SIZE_LINE if self._phase is _Phase.SIZE else _TRAILER_LINE
        found = pattern.match(rest, 0, MAX_LINE_BYTES)
        if not found:
            if len(rest) >= MAX_LINE_BYTES or not _UNFINISHED.fullmatch(rest):
                raise BadFraming("not the line of a chunk" if self._phase is _Phase.SIZE else "not a trailer")
            self._needs = len(rest) + 1
            return 0
        if self._phase is _Phase.SIZE:
            self._begin_chunk(found[1])
        else:
            self._take_trailer(found.end())
        return found.end()

    def _begin_chunk(self, digits: bytes) -> None:
        significant = digits.lstrip(b"0")
        if len(significant) > _MAX_SIZE_DIGITS:
            raise BadFraming("the size of a chunk is too large")
        size = int(significant or b"0", 16)
        self._phase, self._left = (_Phase.DATA, size + 2) if size else (_Phase.TRAILER, 0)

    def _take_trailer(self, length: int) -> None:
        if length == len(_END_OF_DATA):
            self._phase = _Phase.DONE
            return
        self._trailer_bytes += length
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise BadFraming("too many trailers")


class BareChunks:
    """Of chunks that go to who knows none: their data goes on, and nothing else of them."""

    KIND = 5

    def __init__(self, chunks: ChunkFramer | None = None) -> None:
        self._chunks = chunks or ChunkFramer()

    @property
    def state(self) -> State:
        return (*self._chunks.state[:2], self.KIND)

    @property
    def is_done(self) -> bool:
        return self._chunks.is_done

    @property
    def needs(self) -> int:
        return self._chunks.needs

    @property
    def is_data(self) -> bool:
        """What `walk` takes next goes on; else it is dropped."""
        return self._chunks.data_left > 0

    def walk(self, received: memoryview) -> int:
        """As far as it is all data, or none."""
        if self.is_data:
            return self._chunks.walk(received[: self._chunks.data_left])
        position = 0
        while position < len(received) and not (self.is_done or self.is_data):
            line = bytes(received[position : position + MAX_LINE_BYTES]).find(b"\n") + 1
            taken = self._chunks.walk(received[position : position + line] if line else received[position:])
            if not taken:
                break
            position += taken
        return position

    def end(self) -> None:
        self._chunks.end()
