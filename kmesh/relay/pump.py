"""One direction of an exchange: peek, write to the journal, send, take.

A byte is taken from the source only after the sink has it, so one that is on its way is in the source's queue, in the
sink's, or both, and a successor can tell by the sockets' own counts. All pumps share one window: what was looked at
is not needed across a wait.

Large bodies of known length go through a pipe by splice(2): they are taken before they are sent, but lie in the pipe,
which the keeper holds as it holds the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Protocol, TypeVar

from kmesh.relay.channel import Channel
from kmesh.relay.framing import BareChunks, Framer, LengthFramer, State

__all__ = ["SPLICED_BYTES", "WINDOW", "Direction", "Lost", "Slot", "empty_pipe", "peek_head", "pump"]
__all__ += ["send_all"]

WINDOW = 256 * 1024
"""The most bytes that are looked at, or in a pipe, at once."""
SPLICED_BYTES = 512 * 1024
"""Bodies that are shorter are not worth a pipe."""
_PIPE_BYTES = 1024 * 1024
_DATA_WINDOW = 32 * 1024
"""What is looked at of chunks whose data alone is sent, one chunk at a time."""
_HEAD_WINDOW = 8 * 1024
"""What is looked at for a head beyond what is known to be too little."""
_TURNS = 4
"""Pieces that one body may carry before others have their turn."""
_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if hasattr(os, "SPLICE_F_MOVE") else 3
_window = memoryview(bytearray(WINDOW))


_T = TypeVar("_T")


class Direction(IntEnum):
    REQUEST = 0
    ANSWER = 1


class Slot(Protocol):
    """Where an exchange is, for a successor of this process."""

    def note_state(self, direction: int, state: State) -> None:
        """The framer is at `state`, and nothing is planned."""

    def plan(self, direction: int, state: State, planned: int, base: int) -> None:
        """Next `planned` bytes go to the sink, to which `base` were given; behind them the framer is at `state`."""

    def replacing(self, direction: int, length: int, planned: int, base: int, state: State) -> None:
        """Next the first `length` bytes of the source, a head, go to the sink as another one of `planned` bytes.

        Or they are dropped: `planned` is 0.
        """

    def consumed(self, direction: int) -> None:
        """What was planned is sent and taken."""

    def splicing(self, direction: int, left: int, base: int, pipe: int) -> None:
        """From now on `left` bytes go through the pipe with this descriptor to read from; `base` as for `plan`."""


class Lost(Exception):
    """A connection was reset, or it ended where it must not."""

    def __init__(self, channel: Channel, why: str) -> None:
        super().__init__(f"{channel}: {why}")
        self.channel = channel


async def pump(
    source: Channel,
    sink: Channel,
    framer: Framer,
    slot: Slot | None = None,
    direction: int = Direction.REQUEST,
    before_last: Callable[[int], None] | None = None,
    ahead: int = 0,
) -> None:
    """Carry one body, and `ahead` bytes that lie before it. At the end of a stream that ends it nothing is shut down.

    `before_last` is called with the number of bytes that end it, before they are sent; not for CloseFramer.
    Raises: Lost; BadFraming, when the source's bytes are no such body.
    """
    if isinstance(framer, LengthFramer) and framer.left >= SPLICED_BYTES and not (source.is_mapped or sink.is_mapped):
        await _carry_ahead(source, sink, framer, slot, direction, ahead)
        ahead = 0
        # the window has the last part, before which before_last has its place
        await _splice(source, sink, framer, WINDOW // 4, slot, direction)
    if isinstance(framer, BareChunks):
        await _carry_ahead(source, sink, framer, slot, direction, ahead)
        await _pump_data(source, sink, framer, slot, direction)
        return
    planned = 0  # bytes at the head of the source's queue that the framer has walked
    while planned or ahead or not framer.is_done:
        received = await _peek(source, sink, planned or ahead or max(framer.needs, 1))
        if not received:
            framer.end()
            return
        if not planned:
            planned = ahead + framer.walk(_window[ahead:received])
            ahead = 0
            if framer.is_done and before_last:
                before_last(planned)
            if not planned:
                continue
        sent = await _send_planned(source, sink, framer.state, planned, slot, direction)
        planned -= sent
        if sent and received == WINDOW and not framer.is_done:
            await asyncio.sleep(0)  # another's turn


async def _carry_ahead(
    source: Channel, sink: Channel, framer: Framer, slot: Slot | None, direction: int, ahead: int
) -> None:
    while ahead:
        await _peek(source, sink, ahead)
        ahead -= await _send_planned(source, sink, framer.state, ahead, slot, direction)


async def _pump_data(source: Channel, sink: Channel, framer: BareChunks, slot: Slot | None, direction: int) -> None:
    """What is no data is taken, and nothing is sent in its place."""
    for turn in itertools.count(1):
        if framer.is_done:
            return
        received = await _peek(source, sink, framer.needs, _DATA_WINDOW)
        if not received:
            framer.end()
            return
        is_data, planned = framer.is_data, framer.walk(_window[:received])
        if not is_data and planned:
            _drop(source, sink, framer.state, planned, slot, direction)
            planned = 0
        while planned:
            planned -= await _send_planned(source, sink, framer.state, planned, slot, direction)
            if planned:
                await _peek(source, sink, planned, _DATA_WINDOW)
        if turn % _TURNS == 0:
            await asyncio.sleep(0)


def _drop(source: Channel, sink: Channel, state: State, length: int, slot: Slot | None, direction: int) -> None:
    if slot:
        slot.replacing(direction, length, 0, sink.given, state)
    _take(source, length)
    if slot:
        slot.consumed(direction)


async def _send_planned(
    source: Channel, sink: Channel, state: State, planned: int, slot: Slot | None, direction: int
) -> int:
    """Send what is accepted of the window's first bytes, and take that."""
    if slot:
        slot.plan(direction, state, planned, sink.given)
    sent = await _send_some(sink, _window[:planned])
    if sent:
        _take(source, sent)
        if slot and sent == planned:
            slot.consumed(direction)
    return sent


async def send_all(sink: Channel, piece: bytes) -> None:
    """Raises: Lost."""
    view = memoryview(piece)
    while view:
        view = view[await _send_some(sink, view) :]


async def peek_head(source: Channel, watched: Channel | None, read: Callable[[bytes], _T | None]) -> _T | None:
    """What `read` makes of the source's first bytes, once it makes something of them; None: they end before.

    Nothing is taken. Raises: Lost.
    """
    at_least = 1
    while True:
        received = await _peek(source, watched, at_least, at_least + _HEAD_WINDOW)
        if not received:
            return None
        found = read(bytes(_window[:received]))
        if found is not None:
            return found
        at_least = received + 1


async def _peek(source: Channel, sink: Channel | None, at_least: int, limit: int = WINDOW) -> int:
    """Look until so many bytes are in the window; 0 at the end of the stream. Raises: Lost."""
    while True:
        received = _peek_now(source, limit)
        if received is not None and (received >= at_least or received == 0):
            return received
        if received and source.has_ended:
            return 0  # the rest of what is waited for does not come
        _check(source, sink)
        await source.readable(sink)


def _peek_now(source: Channel, limit: int) -> int | None:
    try:
        return source.peek(_window[:limit])
    except OSError as error:
        raise Lost(source, str(error)) from None


async def _send_some(sink: Channel, piece: memoryview) -> int:
    """Send what is accepted; when that is nothing, wait for room and return 0. Raises: Lost."""
    try:
        sent = sink.send(piece)
    except OSError as error:
        raise Lost(sink, str(error)) from None
    if not sent:
        _check(sink)
        await sink.writable()
    return sent


def _take(source: Channel, count: int) -> None:
    try:
        source.take(count)
    except OSError as error:
        raise Lost(source, str(error)) from None


def _check(channel: Channel, watched: Channel | None = None) -> None:
    if channel.is_lost:
        raise Lost(channel, "reset")
    if watched and watched.is_lost:
        raise Lost(watched, "reset")


# Through a pipe


async def empty_pipe(read_end: int, sink: Channel, count: int) -> None:
    """What a predecessor left in one. Raises: Lost."""
    while count:
        went = _give(read_end, sink, count)
        count -= went
        if not went:
            _check(sink)
            await sink.writable()


async def _splice(
    source: Channel, sink: Channel, framer: LengthFramer, rest: int, slot: Slot | None, direction: int
) -> None:
    """Carry all but `rest` bytes. Raises: Lost, BadFraming."""
    with _open_pipe() as (read_end, write_end):
        left = framer.left - rest
        if slot:
            slot.splicing(direction, framer.left, sink.given, read_end)
        in_pipe = 0
        for turn in itertools.count(1):
            if not (left or in_pipe):
                return
            was_empty = not in_pipe  # a full pipe says the same as a source without bytes
            room = min(left, _PIPE_BYTES - in_pipe)
            came = _move(source, write_end, room) if room else None
            if came == 0:
                framer.end()
            left, in_pipe, framer.left = left - (came or 0), in_pipe + (came or 0), framer.left - (came or 0)
            if in_pipe:
                went = _give(read_end, sink, in_pipe)
                in_pipe -= went
                if not went:
                    _check(sink)
                    await sink.writable()
            elif was_empty:
                _check(source, sink)
                await source.readable(sink)
            if turn % _TURNS == 0:
                await asyncio.sleep(0)


@contextlib.contextmanager
def _open_pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a user's limit of pipe buffers: then it stays smaller
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        yield read_end, write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def _move(source: Channel, write_end: int, count: int) -> int | None:
    """As Channel.peek, but the bytes are in the pipe. Raises: Lost."""
    try:
        moved = os.splice(source.sock.fileno(), write_end, count, flags=_SPLICE_FLAGS)
    except BlockingIOError:
        return None
    except OSError as error:
        raise Lost(source, str(error)) from None
    source.taken += moved
    return moved


def _give(read_end: int, sink: Channel, count: int) -> int:
    """Raises: Lost."""
    try:
        given = os.splice(read_end, sink.sock.fileno(), count, flags=_SPLICE_FLAGS)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise Lost(sink, str(error)) from None
    sink.given += given
    return given
