"""An exchange whose relay dies at any of its steps goes on: each side gets every byte once, and in order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import uvloop

from kmesh.model.listener import Http10
from kmesh.relay.adoption import measure_step
from kmesh.relay.channel import Channel
from kmesh.relay.client import Client
from kmesh.relay.counters import count_taken, count_written
from kmesh.relay.exchange import Asked
from kmesh.relay.journal import DirectionState as Direction
from kmesh.relay.journal import ExchangeSlot, Identity, Journal, Kind, Mode, Rest, Slot, Step, cookie_of
from kmesh.relay.recovery import Left, find_left, join_ways
from tests.support.plain_relay import PlainRelay, plain_relay, to_cluster
from tests.support.raw_server import RawServer, Script, raw_server
from tests.support.request_shapes import write_shape

_ANSWER = b"HTTP/1.1 200 OK\r\n"
_KEEP_OPEN = struct.pack("ii", 0, 0)


class _Dies(Exception):
    pass


class _DyingSlot(Slot):
    """Its process ends with the given write to the journal: just before it, or just after."""

    deaths: _Deaths | None = None

    def write(self, now: Direction) -> None:
        if self.deaths is None:
            super().write(now)
            return
        self.deaths.left -= 1
        if self.deaths.left < 0 and not self.deaths.is_behind:
            raise _Dies
        super().write(now)
        if self.deaths.left < 0:
            raise _Dies


class _Deaths:
    """Keeps the sockets and the journal of the exchange that dies, as a keeper does."""

    def __init__(self, at: int, is_behind: bool, before: _Deaths | None = None) -> None:
        """`before`: of the relay whose successor this one is."""
        self.left, self.is_behind = at, is_behind
        self.was = [slot.direction for slot in before.slots] if before else [Direction(), Direction()]
        self.slots: list[_DyingSlot] = []
        self.kept: tuple[socket.socket, socket.socket] | None = None
        self.pipe = -1
        self.asked = Asked(0)
        self.journal = Journal()

    def make_slot(
        self, client: Client, upstream: Channel, asked: Asked, rests: Mapping[int, Rest] | None
    ) -> ExchangeSlot:
        socks, kinds = (client.channel.sock, upstream.sock), (Kind.CLIENT, Kind.RELAYED)
        for sock, kind, was in zip(socks, kinds, self.was, strict=True):
            slot = _DyingSlot(self.journal.memory, sock.fileno())
            slot.open(Identity(kind=kind, cookie=cookie_of(sock)), was)
            slot.deaths = self
            self.slots.append(slot)
        self.asked, self.kept = asked, (socks[0].dup(), socks[1].dup())
        exchange = ExchangeSlot(*self.slots)
        exchange.begin(*socks, (upstream.given, client.channel.given), rests)
        return exchange


@asynccontextmanager
async def _dying_relay(server: RawServer, deaths: _Deaths, **more) -> AsyncIterator[PlainRelay]:
    async with plain_relay(server.address, lambda _: to_cluster(**more)) as relay:
        relay.make_slot = deaths.make_slot
        relay.http10 = Http10()
        yield relay


def _resume(relay: PlainRelay, deaths: _Deaths, following: _Deaths | None = None) -> asyncio.Task[None]:
    """As a successor does with what is kept; `following` is its own death."""
    assert deaths.kept
    client_sock, upstream_sock = deaths.kept
    for sock in deaths.kept:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _KEEP_OPEN)
    ways = (client_sock, upstream_sock, True), (upstream_sock, client_sock, False)
    lefts: list[Left] = []
    for slot, (source, sink, is_upstream) in zip(deaths.slots, ways, strict=True):
        step = measure_step(source, sink, slot.direction, sink_is_upstream=is_upstream)
        left = find_left(slot.direction, step)
        assert left
        lefts.append(left)
        if left.dropped:
            assert len(source.recv(left.dropped, socket.MSG_TRUNC)) == left.dropped
    relay.make_slot = following.make_slot if following else None
    channel, upstream = Channel(client_sock, relay.readiness), Channel(upstream_sock, relay.readiness)
    channel.taken, channel.given = count_taken(client_sock), count_written(client_sock, is_opener=False)
    client = Client(channel, cookie=1, netns=0, routing=0, port=0, surroundings=relay)
    relay.clients.append(client)
    progress = join_ways(lefts[0], lefts[1], deaths.pipe, deaths.pipe)
    work = client.resume(upstream, deaths.asked, progress) if progress else client.serve()
    task = asyncio.create_task(work)
    relay.serving.append(task)
    return task


async def _talk(port: int, request: bytes, length: int) -> bytes:
    """`length` bytes of the answer, and what comes within a moment behind them."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        sending = loop.create_task(loop.sock_sendall(sock, request))
        received = b""
        while len(received) < length:
            more = await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 5)
            assert more, received
            received += more
        await sending
        with contextlib.suppress(TimeoutError):
            received += await asyncio.wait_for(loop.sock_recv(sock, 100), 0.02)
        return received


def _exchange(
    at: int, is_behind: bool, request: bytes, script: Script, length: int, again: int | None = None, **more
) -> tuple[bytes, list[bytes], bool]:
    """(what the client got, what servers got, whether the relay died). `again`: with which write its successor dies,
    too; then that is what is told."""

    async def run(server: RawServer) -> tuple[bytes, bool]:
        deaths = _Deaths(at, is_behind)
        async with _dying_relay(server, deaths, **more) as relay:
            talking = asyncio.create_task(_talk(relay.port, request, length))
            while not relay.serving:  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0.001)
            serving = relay.serving[0]
            await asyncio.wait((talking, serving), return_when=asyncio.FIRST_COMPLETED)
            died = _has_died(serving)
            if died and again is not None:
                following = _Deaths(again, is_behind, deaths)
                serving = _resume(relay, deaths, following)
                await asyncio.wait((talking, serving), return_when=asyncio.FIRST_COMPLETED)
                died, deaths = _has_died(serving), following
            if died:
                _resume(relay, deaths)
            return await asyncio.wait_for(talking, 10), died

    with raw_server({"x": script}) as server:
        got, died = uvloop.run(run(server))
    return got, [request for request in server.requests if request], died


def _has_died(serving: asyncio.Task[None]) -> bool:
    return serving.done() and isinstance(serving.exception(), _Dies)


_BODY = os.urandom(300_000)
_CASES = {
    "no body": write_shape(target=b"/x"),
    "a body": write_shape(b"Content-Length: 300000", method=b"POST", target=b"/x", body=_BODY),
    "chunks": write_shape(
        b"Transfer-Encoding: chunked", method=b"POST", target=b"/x", body=b"3;a\r\nabc\r\n0\r\n\r\n"
    ),
}
_EDIT = {"rewrite_request": lambda head: head[:-2] + b"x-a: b\r\n\r\n"}


@pytest.mark.parametrize("is_behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("is_edited", [False, True], ids=["as it is", "edited"])
@pytest.mark.parametrize("name", _CASES)
def test_every_byte_arrives_once_whenever_the_relay_dies(name, is_edited, is_behind):
    request = _CASES[name]
    answer = _ANSWER + b"transfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n"
    script = ("body", answer, 0.01, b"2\r\nef\r\n", 0.01, b"0\r\n\r\n")
    more = _EDIT if is_edited else {}
    want = answer + b"2\r\nef\r\n0\r\n\r\n"
    want_seen = request.replace(b"\r\n\r\n", b"\r\nx-a: b\r\n\r\n", 1) if is_edited else request
    deaths = 0
    for at in range(100):
        got, seen, died = _exchange(at, is_behind, request, script, len(want), **more)
        assert got == want, at
        assert seen == [want_seen], at
        if not died:
            break
        deaths += 1
    assert deaths >= 4


@pytest.mark.parametrize("is_behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("name", _CASES)
def test_a_successor_that_dies_where_it_begins_loses_nothing(name, is_behind):
    """With each of its first writes, and with predecessors that came differently far."""
    answer = _ANSWER + b"transfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n"
    script = ("body", answer, 0.01, b"2\r\nef\r\n", 0.01, b"0\r\n\r\n")
    want = answer + b"2\r\nef\r\n0\r\n\r\n"
    deaths = 0
    for at, again in itertools.product(range(2, 10), range(3)):
        got, seen, died = _exchange(at, is_behind, _CASES[name], script, len(want), again)
        assert got == want, (at, again)
        assert seen == [_CASES[name]], (at, again)
        deaths += died
    assert deaths >= 8


@pytest.mark.parametrize("is_behind", [False, True], ids=["before", "behind"])
def test_so_does_what_goes_without_its_chunks(is_behind):
    request = write_shape(target=b"/x", version=b"HTTP/1.0")
    chunks = (
        b"4;a\r\nabcd\r\n",
        0.01,
        b"300\r\n" + _BODY[:0x200],
        0.01,
        _BODY[0x200:0x300] + b"\r\n0\r\nx: y\r\n",
        b"\r\n",
    )
    head = b"HTTP/1.0 200 OK\r\nx-b: c\r\nconnection: close\r\n\r\n"
    want = head + b"abcd" + _BODY[:0x300]
    deaths = 0
    for at in range(100):
        hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        script = (hints + _ANSWER + b"transfer-encoding: chunked\r\nx-b: c\r\n\r\n", *chunks)
        got, _, died = _exchange(at, is_behind, request, script, len(want))
        assert got == want, at
        if not died:
            break
        deaths += 1
    assert deaths >= 10


def test_an_answer_that_a_successor_cannot_edit_is_not_passed_on():
    edit = {"rewrite_answer": lambda head: head[:-2] + b"x-c: d\r\n\r\n"}
    script = (0.05, _ANSWER + b"content-length: 2\r\n\r\nok")
    got, _, died = _exchange(3, True, _CASES["no body"], script, 50, **edit)
    assert died and got.startswith(b"HTTP/1.1 503 ")


# Steps, as they can be found


@pytest.mark.parametrize(
    ("was", "step", "want"),
    [
        (Direction(), Step(sent=0, took=0), Left()),
        (Direction(mode=Mode.REPLACING, planned=9, length=7), Step(sent=0, took=0), Left()),
        (Direction(mode=Mode.REPLACING, planned=9, length=7), Step(sent=9, took=0), Left(dropped=7)),
        (Direction(mode=Mode.REPLACING, planned=9, length=7), Step(sent=9, took=7), Left()),
        (Direction(mode=Mode.REPLACING, planned=9, length=7), Step(sent=4, took=0), None),
        (Direction(mode=Mode.REPLACING, planned=0, length=7), Step(sent=0, took=0), Left(dropped=7)),
        (Direction(mode=Mode.REPLACING, planned=0, length=7), Step(sent=0, took=7), Left()),
        (Direction(mode=Mode.PLANNED, planned=9), Step(sent=4, took=1), Left(dropped=3, ahead=5)),
    ],
)
def test_what_is_left_of_a_step(was, step, want):
    assert find_left(was, step) == want


def test_what_lies_in_a_pipe_goes_first():
    left = find_left(Direction(mode=Mode.SPLICING, planned=1000, state=(1000, 0, 0)), Step(sent=300, took=700))
    assert left and left.framer and (left.framer.state[0], left.piped) == (300, 400)
    progress = join_ways(left, Left(), 5, None)
    assert progress and progress.pipes == {0: (5, 400)}
