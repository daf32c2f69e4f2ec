"""One direction: nothing is taken before it is sent, what is planned is written first, no wait is a loop."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from kmesh.relay.channel import Channel, Readiness
from kmesh.relay.framing import BadFraming, ChunkFramer, CloseFramer, LengthFramer, NoBody, State, restore_framer
from kmesh.relay.pump import WINDOW, Direction, Lost, pump


@dataclass
class _Ends:
    """client -> [source, sink] -> server."""

    client: socket.socket
    source: Channel
    sink: Channel
    server: socket.socket


def _pair() -> tuple[socket.socket, socket.socket]:
    """Of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


@asynccontextmanager
async def _ends() -> AsyncIterator[_Ends]:
    readiness = Readiness()
    client, source = _pair()
    sink, server = _pair()
    client.setblocking(False)
    server.setblocking(False)
    ends = _Ends(client, Channel(source, readiness), Channel(sink, readiness), server)
    with closing(client), closing(server), closing(ends.source), closing(ends.sink):
        yield ends
    readiness.close()


def _run(work: Callable[[_Ends], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with _ends() as ends:
            await asyncio.wait_for(work(ends), 20)

    uvloop.run(run())


async def _receive(sock: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, count - len(received))
        assert more
        received += more
    return received


@dataclass
class _Slot:
    """Remembers, and looks at the sockets at each step."""

    ends: _Ends
    steps: list[tuple[str, State, int, int]] = field(default_factory=list)

    def plan(self, direction: int, state: State, planned: int, base: int) -> None:
        self.steps.append(("plan", state, planned, base))
        self._check()

    def replacing(self, direction: int, length: int, planned: int, base: int, state: State) -> None:
        raise AssertionError("a body is not replaced")

    def splicing(self, direction: int, left: int, base: int, pipe: int) -> None:
        self.steps.append(("splicing", (left, 0, 0), pipe, base))
        self._check()

    def consumed(self, direction: int) -> None:
        self.steps.append(("consumed", (0, 0, 0), 0, 0))
        self._check()

    def _check(self) -> None:
        """Between two steps the sink has what was taken, neither more nor less."""
        assert self.ends.source.taken == self.ends.sink.given


@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("size", [0, 1, 100_000, WINDOW + 1, 3_000_000])
def test_a_body_arrives_and_what_follows_stays(size, is_mapped):
    async def work(ends):
        ends.source.is_mapped = is_mapped
        slot, body = _Slot(ends), os.urandom(size)
        loop = asyncio.get_running_loop()
        sending = loop.create_task(loop.sock_sendall(ends.client, b"head" + body + b"behind"))
        last: list[int] = []
        receiving = loop.create_task(_receive(ends.server, size + 4))
        await pump(ends.source, ends.sink, LengthFramer(size), slot, Direction.ANSWER, last.append, ahead=4)
        await sending
        assert await receiving == b"head" + body
        assert await _receive(ends.source.release(), 6) == b"behind"
        assert ends.source.taken == ends.sink.given == size + 4
        assert len(last) == 1 and 0 < last[0] <= size + 4
        assert any(step == "splicing" for step, *_ in slot.steps) is (size == 3_000_000 and not is_mapped)

    _run(work)


def test_a_plan_says_where_a_successor_goes_on():
    """From any plan on, the framer that it tells of and the bytes that it plans lead to the same end."""
    body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\na: b\r\n\r\n"

    async def work(ends):
        slot = _Slot(ends)
        pumping = asyncio.create_task(pump(ends.source, ends.sink, ChunkFramer(), slot))
        for at in range(len(body)):
            await asyncio.get_running_loop().sock_sendall(ends.client, body[at : at + 1])
            await asyncio.sleep(0.001)
        await pumping
        assert await _receive(ends.server, len(body)) == body
        plans = [step for step in slot.steps if step[0] == "plan"]
        assert len(plans) > 10 and slot.steps[-1][0] == "consumed"
        for _, state, planned, base in plans:
            framer, rest = restore_framer(state), memoryview(body)[base + planned :]
            assert framer and framer.walk(rest) == len(rest) and framer.is_done

    _run(work)


def test_the_slot_is_written_before_a_byte_is_sent():
    class Dies(Exception):
        pass

    class Slot(_Slot):
        def plan(self, direction: int, state: State, planned: int, base: int) -> None:
            raise Dies

    async def work(ends):
        await asyncio.get_running_loop().sock_sendall(ends.client, b"abc")
        with pytest.raises(Dies):
            await pump(ends.source, ends.sink, LengthFramer(3), Slot(ends))
        assert ends.sink.given == ends.source.taken == 0

    _run(work)


def test_bytes_that_lie_unread_wake_nobody():
    """A line that is not complete, and a server that does not read: waiting costs no time on a processor."""

    async def work(ends):
        await asyncio.get_running_loop().sock_sendall(ends.client, b"5;" + b"x" * 100)
        waiting = asyncio.create_task(pump(ends.source, ends.sink, ChunkFramer()))
        await asyncio.sleep(0.05)
        before = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - before < 0.05
        waiting.cancel()

    _run(work)


def test_a_full_sink_holds_the_source_back():
    async def work(ends):
        pumping = asyncio.create_task(pump(ends.source, ends.sink, CloseFramer()))
        sent, piece, deadline = 0, bytes(65536), time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                sent += ends.client.send(piece)
            except BlockingIOError:
                await asyncio.sleep(0.01)
        before = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.05
        assert ends.source.taken == ends.sink.given < sent < 40_000_000
        assert await _receive(ends.server, sent) == bytes(sent)
        ends.client.shutdown(socket.SHUT_WR)
        await pumping

    _run(work)


@pytest.mark.parametrize("framer", [LengthFramer(9), LengthFramer(9_000_000), ChunkFramer()])
def test_a_stream_that_ends_too_early_is_no_body(framer):
    async def work(ends):
        await asyncio.get_running_loop().sock_sendall(ends.client, b"4\r\nab")
        ends.client.shutdown(socket.SHUT_WR)
        with pytest.raises(BadFraming):
            await pump(ends.source, ends.sink, framer)

    _run(work)


@pytest.mark.parametrize("size", [9, 9_000_000])
@pytest.mark.parametrize("of_source", [True, False])
def test_a_lost_end_is_named(of_source, size):
    async def work(ends):
        pumping = asyncio.create_task(pump(ends.source, ends.sink, LengthFramer(size)))
        await asyncio.sleep(0.01)
        lost = ends.client if of_source else ends.server
        lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        lost.close()
        with pytest.raises(Lost) as caught:
            await pumping
        assert caught.value.channel is (ends.source if of_source else ends.sink)

    _run(work)


def test_nothing_to_carry_is_carried_at_once():
    _run(lambda ends: pump(ends.source, ends.sink, NoBody()))


def test_the_end_of_the_other_side_is_told_while_its_bytes_lie_unread():
    async def work(ends):
        await asyncio.get_running_loop().sock_sendall(ends.client, b"abc")
        await asyncio.sleep(0.01)
        assert not ends.source.has_ended
        ends.client.shutdown(socket.SHUT_WR)
        await ends.source.readable()  # the bytes
        await ends.source.readable()
        assert ends.source.has_ended and not ends.source.is_lost
        assert ends.source.peek(memoryview(bytearray(9))) == 3

    _run(work)
