"""A connection as the relay uses it: a non-blocking socket whose bytes are looked at before they are taken.

All channels are members of one epoll of the relay's own, which hangs in the event loop as one descriptor. It is
edge-triggered, so data that is left unread on purpose wakes nobody, and the end of the other side is told while it
lies there; asyncio can say neither.

    wait for           woken by
    readable()         bytes or the end of the stream that came since the last wait; loss of this or of the watched
    writable()         room; loss of this

An edge is remembered until it is waited for, so: look first, wait when there is too little, and look again.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct

from kmesh.relay.journal import Slot

__all__ = ["Channel", "Readiness", "reset_at_close"]

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_LOSS = select.EPOLLHUP | select.EPOLLERR
_AT_ONCE = 256
_RESET = struct.pack("ii", 1, 0)
_SCRATCH = bytearray(256 * 1024)
"""Where bytes go that are taken and no longer needed."""


class Readiness:
    """The epoll of all channels of one event loop. Close it when they are closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._channels: dict[int, Channel] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._wake)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def add(self, channel: Channel) -> None:
        fd = channel.sock.fileno()
        self._channels[fd] = channel
        self._epoll.register(fd, _EVENTS)

    def remove(self, channel: Channel) -> None:
        if self._channels.pop(channel.sock.fileno(), None):
            self._epoll.unregister(channel.sock.fileno())

    def _wake(self) -> None:
        ready = [(self._channels.get(fd), events) for fd, events in self._epoll.poll(0, _AT_ONCE)]
        for channel, events in ready:  # looked up before the first of them can reuse a descriptor
            if channel:
                channel.note(events)


class Channel:
    """One connection. `taken` and `given` count what was taken from its stream, and what was sent into it."""

    def __init__(self, sock: socket.socket, readiness: Readiness, *, is_mapped: bool = False) -> None:
        """`is_mapped`: the socket is in a sockmap with a verdict program, where MSG_TRUNC means nothing."""
        sock.setblocking(False)
        self.sock, self.is_mapped = sock, is_mapped
        self.taken = self.given = 0
        self.has_ended = False
        """The other side sends no more, though it may still read."""
        self.is_lost = False
        """Reset, or closed in both directions."""
        self._readiness = readiness
        self._is_readable = self._is_writable = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self.watched_by: list[asyncio.Future[None]] = []
        """Futures of other channels, done when this one is lost."""
        self.slot: Slot | None = None
        """What the journal says of the socket, until it is closed or released."""
        readiness.add(self)

    def __repr__(self) -> str:
        return f"Channel(fd={self.sock.fileno()}, taken={self.taken}, given={self.given})"

    # Waiting

    async def readable(self, watched: Channel | None = None) -> None:
        """Until something came, or this channel or `watched` is lost."""
        while not (self._is_readable or self.is_lost or (watched and watched.is_lost)):
            self._reader = asyncio.get_running_loop().create_future()
            await _either(self._reader, watched)
        self._is_readable = False

    async def writable(self) -> None:
        """Until there is room, or this channel is lost."""
        while not (self._is_writable or self.is_lost):
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        self._is_writable = False

    def note(self, events: int) -> None:
        """What epoll says of the socket."""
        if events & (select.EPOLLRDHUP | _LOSS):
            self.has_ended = True
        if events & _LOSS:
            self.is_lost = True
            for future in self.watched_by:
                _wake(future)
        if events & (select.EPOLLIN | select.EPOLLRDHUP | _LOSS):
            self._is_readable = True
            _wake(self._reader)
        if events & (select.EPOLLOUT | _LOSS):
            self._is_writable = True
            _wake(self._writer)

    # Bytes

    def peek(self, into: memoryview) -> int | None:
        """How many bytes of the stream are in `into` now, which stay in the socket; 0 at its end; None: none yet.

        Raises OSError when the connection was reset.
        """
        try:
            return self.sock.recv_into(into, 0, socket.MSG_PEEK)
        except BlockingIOError:
            return None

    def is_empty(self) -> bool:
        """Open, and nothing lies unread."""
        try:
            return self.peek(memoryview(bytearray(1))) is None
        except OSError:
            return False

    def take(self, count: int) -> None:
        """Drop bytes that were looked at. Raises OSError."""
        if not self.is_mapped:
            while count:
                dropped = self.sock.recv_into(_SCRATCH, min(count, len(_SCRATCH)), socket.MSG_TRUNC)
                self.taken += dropped
                count -= dropped
            return
        view = memoryview(_SCRATCH)
        while count:
            received = self.sock.recv_into(view, min(count, len(_SCRATCH)))
            if not received:
                raise ConnectionResetError("bytes that were seen are gone")
            self.taken += received
            count -= received

    def send(self, piece: memoryview | bytes) -> int:
        """How many bytes of `piece` were accepted. Raises OSError."""
        try:
            sent = self.sock.send(piece)
        except BlockingIOError:
            return 0
        self.given += sent
        return sent

    # Ending

    def shut_down(self) -> None:
        """Nothing more is sent. A connection that is gone already is no error."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def release(self) -> socket.socket:
        """The socket, open, and no channel's any more."""
        self._readiness.remove(self)
        self.slot = None
        return self.sock

    def close(self) -> None:
        self._readiness.remove(self)
        if self.slot:
            self.slot.close()
            self.slot = None  # the number may be another socket's soon
        self.sock.close()
        self._end()

    def reset(self) -> None:
        """Closed so that the other side knows it is no end."""
        reset_at_close(self.sock)
        self.close()

    def _end(self) -> None:
        self.is_lost = True
        for future in (self._reader, self._writer, *self.watched_by):
            _wake(future)


def reset_at_close(sock: socket.socket) -> None:
    """So that the other side knows that its closing is no end; one that is gone already is no error."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def _either(future: asyncio.Future[None], watched: Channel | None) -> None:
    """Until it is done, which the loss of `watched` makes it too."""
    if watched is None:
        await future
        return
    watched.watched_by.append(future)
    try:
        await future
    finally:
        watched.watched_by.remove(future)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future and not future.done():
        future.set_result(None)
