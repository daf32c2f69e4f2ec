"""Connections that may be no HTTP: what they are taken for, and that the others' bytes arrive, whoever ends first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kmesh.compiler.ir import Undetected
from kmesh.model.listener import Detection, Http10
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.undetected import Begun, list_clusters, recognise
from tests.support.plain_relay import PlainRelay, plain_relay, reply

TLS = bytes.fromhex("16030100c8010000c40303")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLUSTERS, HTTP2 = (WeightedCluster("c", 1),), (WeightedCluster("h", 1),)
WHOLE = Undetected(clusters=CLUSTERS, http2=HTTP2, detection=Detection(timeout_s=0.2, continues=True))
BIG = bytes(1_000_000)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.mark.parametrize(
    ("received", "want"),
    [
        (b"GET / HTTP/1.1\r\n", Begun.HTTP1),
        (b"POST http://a/ HTTP/1.1\r\nHost", Begun.HTTP1),
        (b"\r\nGET / HTTP/1.1\r\n", Begun.OTHER),
        (b"CONNECT 127.0.0.1:80 HTT", None),
        (b"GET /", None),
        (b"G", None),
        (b"P", None),
        (PREFACE[:20], None),
        (PREFACE, Begun.HTTP2),
        (PREFACE[:-1] + b"x", Begun.HTTP10),
        (b"GET / HTTP/1.0\r\n", Begun.HTTP10),
        (b"GET /\r\n", Begun.HTTP10),
        (b"GET / HTTP/2.0\r\n", Begun.HTTP10),
        (b"EHLO a.example\r\n", Begun.OTHER),
        (b"BREW / HTTP/1.1\r\n", Begun.HTTP1),
        (TLS, Begun.OTHER),
        (TLS[:1], Begun.OTHER),
        (b"\0\0\0\x08", Begun.OTHER),
        (b"GET " + b"x" * 70_000, Begun.OTHER),
    ],
)
def test_first_bytes(received: bytes, want: Begun | None) -> None:
    assert recognise(received) is want


@pytest.mark.parametrize(
    ("begun", "continues", "want"),
    [
        (Begun.OTHER, False, CLUSTERS),
        (Begun.HTTP2, False, HTTP2),
        (Begun.SILENT, True, CLUSTERS),
        (Begun.SILENT, False, ()),
    ],
)
def test_where_they_go(begun: Begun, continues: bool, want: tuple[WeightedCluster, ...]) -> None:
    undetected = replace(WHOLE, detection=Detection(continues=continues))
    assert list_clusters(undetected, begun) == want


@asynccontextmanager
async def relayed(
    serve: Serve, undetected: Undetected = WHOLE, http10: Http10 | None = None
) -> AsyncIterator[tuple[PlainRelay, Streams]]:
    """A relay before a server, and a client's connection to it."""
    ended: list[BaseException] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except Exception as error:
            ended.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    async with server, plain_relay(server.sockets[0].getsockname(), lambda _: reply(418)) as relay:
        relay.undetected, relay.http10 = undetected, http10
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        try:
            async with asyncio.timeout(10):
                yield relay, (reader, writer)
        finally:
            writer.close()
    assert ended == []


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_http_goes_by_routes() -> None:
    async def scenario() -> None:
        async with relayed(echo) as (relay, (reader, writer)):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 418")
            assert relay.chosen_from == []

    run(scenario)


def test_so_does_http10_where_the_listener_takes_it() -> None:
    async def scenario() -> None:
        async with relayed(echo, replace(WHOLE, takes_http10=True), Http10()) as (relay, (reader, writer)):
            writer.write(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.0 418")
            assert relay.chosen_from == []

    run(scenario)


@pytest.mark.parametrize(
    ("begins", "clusters"), [(TLS, CLUSTERS), (PREFACE, HTTP2), (b"GET / HTTP/1.0\r\n\r\n", CLUSTERS)]
)
def test_others_are_copied(begins: bytes, clusters: tuple[WeightedCluster, ...]) -> None:
    async def scenario() -> None:
        async with relayed(echo) as (relay, (reader, writer)):
            writer.write(begins + BIG)
            writer.write_eof()
            assert await reader.read(-1) == begins + BIG
            assert relay.chosen_from == [clusters]

    run(scenario)


def test_a_server_that_speaks_first_does_so_when_the_time_is_over() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await echo(reader, writer)

    async def scenario() -> None:
        async with relayed(greet) as (_, (reader, writer)):
            assert await reader.readline() == b"220 ready\r\n"
            writer.write(b"HELO a\r\n")
            assert await reader.readline() == b"HELO a\r\n"

    run(scenario)


def test_the_last_bytes_arrive_where_the_server_ends_first() -> None:
    async def scenario() -> None:
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(len(TLS))
            writer.write(b"bye")
            writer.write_eof()
            await asyncio.sleep(0.3)  # what comes meanwhile lies in the relay's send buffer
            done.set_result(await reader.read(-1))

        async with relayed(end_first) as (_, (reader, writer)):
            writer.write(TLS)
            assert await reader.read(-1) == b"bye"
            writer.write(BIG * 4)
            writer.write_eof()
            assert await done == BIG * 4

    run(scenario)


@pytest.mark.parametrize(
    "undetected",
    [
        replace(WHOLE, detection=Detection(timeout_s=0.1, continues=False)),
        replace(WHOLE, clusters=(), detection=Detection(timeout_s=0.1, continues=True)),
    ],
)
def test_what_goes_nowhere_is_closed(undetected: Undetected) -> None:
    async def scenario() -> None:
        async with relayed(echo, undetected) as (_, (reader, _writer)):
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)

    run(scenario)


def test_a_connection_that_the_kernel_carries_is_http_however_long_it_is_silent() -> None:
    async def scenario() -> None:
        async with relayed(echo) as (relay, (reader, writer)):
            relay.is_kernels = True
            await asyncio.sleep(0.4)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 418")

    run(scenario)


def test_without_a_time_a_silent_connection_waits() -> None:
    async def scenario() -> None:
        async with relayed(echo, replace(WHOLE, detection=Detection(timeout_s=None))) as (relay, (reader, writer)):
            await asyncio.sleep(0.4)
            assert relay.chosen_from == []
            writer.write(TLS)
            assert await reader.readexactly(len(TLS)) == TLS

    run(scenario)
