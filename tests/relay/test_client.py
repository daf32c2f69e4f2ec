"""A client's connection, in step with the kernel: grants, answers in order, answers handed over, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

import kmesh.relay.client
from kmesh.relay.channel import Channel
from kmesh.relay.client import UnfinishedHeads
from kmesh.relay.exchange import Asked, Progress
from kmesh.relay.framing import ChunkFramer, LengthFramer, NoBody
from tests.support.plain_relay import PlainRelay, plain_relay, reply, to_cluster
from tests.support.raw_server import RawServer, Script, raw_server
from tests.support.request_shapes import write_shape

_ANSWER = b"HTTP/1.1 200 OK\r\n"
_WHOLE = _ANSWER + b"content-length: 2\r\n\r\nok"
_UPSTREAM = 77
"""Cookie of the upstream connection that the kernel has in flight."""
_NOT_FOUND = write_shape(target=b"/not-found")


class _Peer:
    """A client of the relay's, in the loop of the test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def read(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = await asyncio.wait_for(self._loop.sock_recv(self.sock, count - len(received)), 5)
            if not more:
                break
            received += more
        return received

    async def read_until(self, end: bytes) -> bytes:
        received = b""
        while not received.endswith(end):
            received += (more := await self.read(1))
            assert more, received
        return received

    async def read_all(self) -> bytes:
        return await self.read(1 << 30)


@asynccontextmanager
async def _peer(relay: PlainRelay) -> AsyncIterator[_Peer]:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", relay.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield _Peer(sock)


_Work = Callable[[PlainRelay, RawServer], Awaitable[None]]


def _run(work: _Work, scripts: dict[str, Script] | None = None) -> PlainRelay:
    def decide(head):
        return reply(404) if head.target == b"/not-found" else to_cluster()

    async def run(server: RawServer) -> PlainRelay:
        async with plain_relay(server.address, decide) as relay:
            await asyncio.wait_for(work(relay, server), 20)
            return relay

    with raw_server(scripts) as server:
        return uvloop.run(run(server))


async def _wait(is_met: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not is_met():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)


# Grants


def test_a_grant_names_what_came_and_what_goes_before_the_last_byte():
    request = write_shape(b"Content-Length: 2", method=b"POST", body=b"hi")
    seen = []

    async def work(relay, _):
        relay.on_grant = lambda: seen.append(relay.clients[0].channel.given)
        async with _peer(relay) as peer:
            await peer.send(request)
            await peer.read(len(_WHOLE))
            await peer.send(_NOT_FOUND)
            await peer.read_until(b"\r\n\r\n")

    relay = _run(work)
    given = relay.clients[0].channel.given
    assert relay.grants == [
        (len(request), len(_WHOLE), 0),
        (len(request) + len(_NOT_FOUND), given, 0),
    ]
    assert seen[0] < len(_WHOLE) <= seen[1] < given


def test_a_grant_does_not_hold_where_the_next_request_lies_unread():
    """Its count of what came is less than what passed the program."""

    async def work(relay, _):
        async with _peer(relay) as peer:
            await peer.send(_NOT_FOUND + _NOT_FOUND)
            await _wait(lambda: len(relay.grants) == 2)

    relay = _run(work)
    assert [taken for taken, _, _ in relay.grants] == [len(_NOT_FOUND), 2 * len(_NOT_FOUND)]


def test_answers_that_end_the_connection_are_not_granted():
    async def work(relay, _):
        for request in (write_shape(b"Connection: close"), b"GET /\0", write_shape(target=b"/x")):
            async with _peer(relay) as peer:
                await peer.send(request)
                assert await peer.read_all()

    assert not _run(work, {"x": (_ANSWER + b"\r\nabc", "close")}).grants


# In step with the kernel


def test_a_request_waits_for_the_answer_that_the_kernel_has_in_flight():
    async def work(relay, server):
        relay.flying = _UPSTREAM
        async with _peer(relay) as peer:
            await peer.send(write_shape(target=b"/x"))
            await asyncio.sleep(0.15)
            assert not server.requests and not relay.clients[0].channel.given
            relay.flying = 0
            relay.clients[0].note_ended()
            assert await peer.read(len(_WHOLE)) == _WHOLE

    _run(work)


@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("is_head", [False, True])
def test_an_answer_handed_over_comes_before_what_was_asked_meanwhile(is_head, is_mapped):
    chunked = _ANSWER + b"transfer-encoding: chunked\r\n\r\n" + (b"" if is_head else b"2\r\nab\r\n0\r\n\r\n")

    async def work(relay, server):
        relay.flying = _UPSTREAM
        async with _peer(relay) as peer, _upstream(relay, is_mapped) as (upstream, far):
            await peer.send(_NOT_FOUND)
            await _wait(lambda: relay.clients)
            await far.send(chunked[:20])
            answering = asyncio.create_task(relay.clients[0].relay_answer(upstream, _UPSTREAM, is_head=is_head))
            await asyncio.sleep(0.05)
            await far.send(chunked[20:])
            assert await peer.read(len(chunked)) == chunked
            assert (await peer.read(12)) == b"HTTP/1.1 404"
            await answering

    relay = _run(work)
    assert relay.grants[0][1:] == (len(chunked), _UPSTREAM)
    assert [ended for *_, ended in relay.grants] == [_UPSTREAM, _UPSTREAM]  # the kernel may not know it yet
    assert relay.released == [False]


@asynccontextmanager
async def _upstream(relay: PlainRelay, is_mapped: bool = False) -> AsyncIterator[tuple[Channel, _Peer]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with far:
        far.setblocking(False)
        yield Channel(near, relay.readiness, is_mapped=is_mapped), _Peer(far)


@pytest.mark.parametrize("script", [b"", b"HTTP/1.1 200", b"junk\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"])
def test_an_answer_handed_over_that_is_none_is_made_here(script):
    async def work(relay, _):
        relay.flying = _UPSTREAM
        async with _peer(relay) as peer, _upstream(relay) as (upstream, far):
            await _wait(lambda: relay.clients)
            await far.send(script)
            far.sock.shutdown(socket.SHUT_WR)
            await relay.clients[0].relay_answer(upstream, _UPSTREAM, is_head=False)
            answer = await peer.read_until(b"protocol error" if script else b"termination")
            assert answer.startswith(b"HTTP/1.1 502 " if script else b"HTTP/1.1 503 ")
            relay.flying = 0
            await peer.send(write_shape())
            assert await peer.read(len(_WHOLE)) == _WHOLE

    assert _run(work).grants[0][2] == _UPSTREAM


def test_a_request_lost_in_flight_is_answered_and_the_connection_goes_on():
    async def work(relay, _):
        relay.flying = _UPSTREAM
        async with _peer(relay) as peer:
            await _wait(lambda: relay.clients)
            await peer.send(_NOT_FOUND)
            await asyncio.sleep(0.02)
            relay.clients[0].note_lost(_UPSTREAM, False)
            assert (await peer.read_until(b"connection termination")).startswith(b"HTTP/1.1 503 ")
            assert (await peer.read(12)) == b"HTTP/1.1 404"

    assert [ended for *_, ended in _run(work).grants] == [_UPSTREAM, _UPSTREAM]


def test_an_answer_lost_in_flight_resets_the_client():
    async def work(relay, _):
        async with _peer(relay) as peer:
            await _wait(lambda: relay.clients)
            relay.clients[0].note_lost(_UPSTREAM, True)
            with pytest.raises(ConnectionResetError):
                await peer.read_all()

    assert len(_run(work).forgotten) == 1


# Upstream connections that served another exchange


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_lost_to_a_connection_that_was_closed_is_sent_again_where_it_is_safe(method, reset):
    answers = []

    async def work(relay, server):
        async with _upstream(relay) as (one, far_one), _upstream(relay) as (two, far_two):
            for spare, far in ((one, far_one), (two, far_two)):
                assert spare.send(b"x") == 1
                await far.read(1)
                if reset:
                    far.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                far.sock.close()
                relay.spares.append(spare)
            async with _peer(relay) as peer:
                await peer.send(write_shape(target=b"/x", method=method) + _NOT_FOUND)
                answers.append(await peer.read_until(b"ok" if method == b"GET" else b"connection termination"))
                assert (await peer.read(12)) == b"HTTP/1.1 404"
            assert len(server.requests) == (method == b"GET")

    relay = _run(work)
    assert answers[0].startswith(b"HTTP/1.1 200 " if method == b"GET" else b"HTTP/1.1 503 ")
    assert relay.released == ([False, False, True] if method == b"GET" else [False])


# Ends


def test_the_end_of_a_client_with_bound_connections_is_theirs_to_wait_for():
    async def work(relay, _):
        relay.has_bound = True
        async with _peer(relay) as peer:
            await peer.send(_NOT_FOUND)
            await peer.read_until(b"\r\n\r\n")
            peer.sock.shutdown(socket.SHUT_WR)
            await _wait(lambda: relay.ended)
            assert not relay.forgotten
            relay.clients[0].close()
            assert await peer.read_all() == b""
            assert relay.forgotten == relay.clients

    _run(work)


def test_a_client_that_ends_and_has_nothing_bound_is_closed():
    async def work(relay, _):
        async with _peer(relay) as peer:
            peer.sock.shutdown(socket.SHUT_WR)
            assert await peer.read_all() == b""
        await _wait(lambda: relay.forgotten)

    _run(work)


def test_an_answer_survives_what_its_client_still_sends():
    """The connection is refused with megabytes unread: no reset takes the answer back."""

    async def work(relay, _):
        async with _peer(relay) as peer:
            request = write_shape(b"Content-Length: 900000", method=b"POST", target=b"/not-found")
            await peer.send(request + bytes(800_000))
            assert (await peer.read_all()).startswith(b"HTTP/1.1 404 ")

    _run(work)


# Bounds


def test_clients_that_dribble_their_heads_are_answered_and_closed(monkeypatch):
    monkeypatch.setattr(kmesh.relay.client, "HEAD_S", 0.3)

    async def work(relay, _):
        async with _peer(relay) as peer, _peer(relay) as quiet:
            dribbling = asyncio.create_task(_dribble(peer))
            answer = await peer.read_all()
            assert answer.startswith(b"HTTP/1.1 408 ") and answer.endswith(b"request header timeout")
            dribbling.cancel()
            assert len(relay.unfinished) == 0
            await quiet.send(_NOT_FOUND)  # who has sent nothing is waited for
            assert (await quiet.read(12)) == b"HTTP/1.1 404"

    _run(work)


async def _dribble(peer: _Peer) -> None:
    with contextlib.suppress(OSError):
        for byte in write_shape(b"x: " + b"a" * 10_000):
            await peer.send(bytes((byte,)))
            await asyncio.sleep(0.02)


def test_of_too_many_unfinished_heads_the_oldest_is_given_up():
    async def work(relay, _):
        relay.unfinished = UnfinishedHeads(2)
        async with _peer(relay) as first, _peer(relay) as second, _peer(relay) as third:
            for number, peer in enumerate((first, second, third)):
                await peer.send(b"GET /")
                await _wait(lambda number=number: len(relay.unfinished) == min(number + 1, 2))
            assert (await first.read_all()).startswith(b"HTTP/1.1 408 ")
            for peer in (second, third):
                await peer.send(_NOT_FOUND[5:])
                assert (await peer.read(12)) == b"HTTP/1.1 404"

    _run(work)


def test_a_waiting_client_costs_no_wake_up():
    async def work(relay, _):
        async with _peer(relay) as peer:
            await peer.send(_NOT_FOUND)
            await peer.read_until(b"\r\n\r\n")
            woken = []
            relay.clients[0].channel.note = woken.append
            await asyncio.sleep(0.2)
            assert not woken

    _run(work)


# From a predecessor


def test_a_body_goes_on_where_a_predecessor_was_killed():
    scripts: dict[str, Script] = {"x": ("body", _WHOLE)}

    async def work(relay, server):
        upstream = await relay.dial(0, to_cluster())
        upstream.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n0123456")
        async with _peer(relay) as peer:
            await _wait(lambda: relay.clients)
            client = relay.clients[0]
            relay.serving[0].cancel()
            await peer.send(b"789" + _NOT_FOUND)
            progress = Progress(request=LengthFramer(1), request_ahead=2)
            resuming = asyncio.create_task(client.resume(upstream, Asked(0), progress))
            assert await peer.read(len(_WHOLE)) == _WHOLE
            assert (await peer.read(12)) == b"HTTP/1.1 404"
            resuming.cancel()
            await asyncio.gather(resuming, return_exceptions=True)
        assert server.requests[0].endswith(b"\r\n\r\n0123456789")

    assert _run(work, scripts).released == [False]


def test_an_answer_goes_on_where_a_predecessor_was_killed():
    rest = b"cd\r\n3\r\nefg\r\n0\r\n\r\n"

    async def work(relay, _):
        async with _peer(relay) as peer, _upstream(relay) as (upstream, far):
            await _wait(lambda: relay.clients)
            relay.serving[0].cancel()
            await far.send(rest)
            progress = Progress(request=NoBody(), answer=ChunkFramer(1, 2), answer_ahead=2)
            resuming = asyncio.create_task(relay.clients[0].resume(upstream, Asked(0), progress))
            assert await peer.read(len(rest)) == rest
            await peer.send(_NOT_FOUND)
            assert (await peer.read(12)) == b"HTTP/1.1 404"
            resuming.cancel()
            await asyncio.gather(resuming, return_exceptions=True)

    assert len(_run(work).grants) == 2


def test_a_client_reset_while_it_waits_is_forgotten():
    async def work(relay, _):
        async with _peer(relay) as peer:
            await _wait(lambda: relay.clients)
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
            await _wait(lambda: relay.forgotten)

    _run(work)
