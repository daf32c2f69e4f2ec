"""The shell against a real gRPC server on loopback: order, flow control, reconnecting, what is remembered."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from grpclib.const import Status

from kmesh.model.address import HostAddress
from kmesh.xds.client import AdsClient, AdsConfig, Variant
from kmesh.xds.status import AdsStatus, StreamState
from tests.support.ads_server import TIMEOUT_S, AdsServer, Call, bind_loopback, serve_ads
from tests.support.xds_kinds import CDS, EDS, KINDS, LDS, build_any

BOTH = pytest.mark.parametrize("variant", list(Variant), ids=lambda v: v.value)
LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def resolve_nothing(host: str) -> list[str]:
    raise AssertionError(f"{host} should not be resolved")


def leave_socket(sock: socket.socket) -> None:
    """Programs of ours are not loaded in these tests."""


def build_client(server: HostAddress | Path, variant: Variant = Variant.DELTA, **settings: Any) -> AdsClient:
    settings = {"backoff_initial_s": 0.02, "backoff_maximum_s": 0.1} | settings
    config = AdsConfig(server=server, variant=variant, node_id="test", **settings)
    return AdsClient(config, KINDS, resolve=resolve_nothing, prepare_socket=leave_socket)


@asynccontextmanager
async def running(client: AdsClient) -> AsyncIterator[AsyncIterator[Any]]:
    """Run the client; gives its updates."""
    task = asyncio.create_task(client.run())
    try:
        yield client.updates()
    finally:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=TIMEOUT_S)
        assert done, "the client does not stop"
        if not task.cancelled():
            task.result()


@asynccontextmanager
async def conversation(
    variant: Variant = Variant.DELTA, **settings: Any
) -> AsyncIterator[tuple[AdsClient, AsyncIterator[Any], AdsServer]]:
    with bind_loopback() as sock:
        async with serve_ads(sock) as server:
            client = build_client(HostAddress(*sock.getsockname()), variant, **settings)
            async with running(client) as updates:
                yield client, updates, server


async def next_update(updates: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        return await anext(updates)


async def status_where(client: AdsClient, condition: Callable[[AdsStatus], bool]) -> AdsStatus:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition(status := client.status()):
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.005)
    return status


def run(main: Awaitable[None], new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)


async def take_first_requests(call: Call, count: int = 2) -> list[str]:
    requests = [await call.receive() for _ in range(count)]
    assert [request.HasField("node") for request in requests] == [True] + [False] * (count - 1)
    return [next(kind.name for kind in KINDS if kind.type_url == request.type_url) for request in requests]


@BOTH
@LOOPS
def test_conversation(variant: Variant, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with conversation(variant) as (client, updates, server):
            call = await server.next_call()
            assert call.variant is variant
            assert await take_first_requests(call) == ["CDS", "LDS"]
            nonce = await call.push(CDS, {"a": "1", "b": "bad"}, "v1")
            update = await next_update(updates)
            assert (update.type_url, dict(update.changed)) == (CDS.type_url, {"a": "1"})
            nack = await call.receive()
            assert (nack.response_nonce, nack.error_detail.code) == (nonce, 3)
            client.subscribe(EDS.type_url, ["a"])
            assert (await call.receive()).type_url == EDS.type_url

            status = client.status()
            assert (status.state, status.attempts, status.last_error) == (StreamState.CONNECTED, 1, "")
            cds, eds, _, _ = status.types
            assert (cds.name, cds.resources, cds.subscribed, cds.is_rejected) == ("CDS", 1, None, True)
            assert (cds.rejected, cds.last_nack) == ((("b", "is bad"),), "Cluster 'b' at value: is bad")
            assert abs(cds.last_nack_at.timestamp() - time.time()) < 2
            assert (eds.subscribed, eds.resources, eds.last_nack_at) == (1, 0, None)
            held = client.resources()[CDS.type_url]["a"]
            assert (held.version, held.raw) == ("v1", build_any(CDS, "a", "1").value)

    run(main(), new_loop)


@BOTH
def test_behaviour_10_next_response_is_not_read_before_the_consumer_comes_back(variant: Variant) -> None:
    async def main() -> None:
        async with conversation(variant) as (_, updates, server):
            call = await server.next_call()
            await take_first_requests(call)
            await call.push(CDS, {"a": "1"}, "v1")
            await call.push(CDS, {"a": "2"}, "v2")
            await next_update(updates)
            assert (await call.receive()).response_nonce == "n1"
            again = asyncio.create_task(call.receive())
            await asyncio.sleep(0.1)
            assert not again.done(), "the second response was read while the first is being worked on"
            assert dict((await next_update(updates)).changed) == {"a": "2"}
            assert (await again).response_nonce == "n2"

    run(main())


@BOTH
def test_behaviour_19_subscribing_while_an_update_is_worked_on(variant: Variant) -> None:
    async def main() -> None:
        async with conversation(variant) as (client, updates, server):
            call = await server.next_call()
            await take_first_requests(call)
            await call.push(CDS, {"a": "1"})
            await next_update(updates)
            client.subscribe(EDS.type_url, ["a"])
            client.subscribe(EDS.type_url, ["a", "b"])
            got = [await call.receive(), await call.receive()]
            assert [(r.type_url, r.response_nonce) for r in got] == [(CDS.type_url, "n1"), (EDS.type_url, "")]
            names = got[1].resource_names if variant is Variant.SOTW else got[1].resource_names_subscribe
            assert list(names) == ["a", "b"]

    run(main())


@BOTH
def test_behaviour_07_and_34_stream_error_then_backoff_then_everything_again(variant: Variant) -> None:
    async def main() -> None:
        async with conversation(variant) as (client, updates, server):
            client.subscribe(EDS.type_url, ["a"])
            call = await server.next_call()
            assert await take_first_requests(call, 3) == ["CDS", "EDS", "LDS"]
            for attempt in range(2, 6):
                call.end(Status.UNAVAILABLE, "not today")
                call = await server.next_call()
                assert await take_first_requests(call, 3) == ["CDS", "EDS", "LDS"]
                status = client.status()
                assert (status.attempts, status.last_error) == (attempt, "UNAVAILABLE: not today")
            await call.push(CDS, {"a": "1"})
            await next_update(updates)
            assert client.status().attempts == 0, "a good response makes up for the failures"
            call.end()
            again = asyncio.create_task(next_update(updates))
            await server.next_call()
            assert client.status().last_error == "the server closed the stream"
            again.cancel()

    run(main())


def test_behaviour_34_a_response_resets_the_backoff() -> None:
    async def main() -> None:
        async with conversation(backoff_maximum_s=60.0) as (client, updates, server):
            client._backoff._failures = 20  # as after minutes without a server
            call = await server.next_call()
            await take_first_requests(call)
            await call.push(CDS, {"a": "1"})
            await next_update(updates)
            again = asyncio.create_task(next_update(updates))
            call.end()
            await server.next_call()
            again.cancel()

    async def patient() -> None:
        async with asyncio.timeout(2):
            await main()

    run(patient())


def test_behaviour_09_subscribed_before_there_is_a_server() -> None:
    """The first failure is not fatal, nor are later ones."""

    async def main() -> None:
        with bind_loopback() as sock:
            client = build_client(HostAddress(*sock.getsockname()))
            client.subscribe(EDS.type_url, ["a", "b"])
            client.subscribe(EDS.type_url, ["a"])
            async with running(client):
                status = await status_where(client, lambda s: s.attempts >= 2 and s.next_attempt_at is not None)
                assert status.state is StreamState.BACKING_OFF
                assert "Connect" in status.last_error or "refused" in status.last_error
                assert status.connected_since is None
                async with serve_ads(sock) as server:
                    call = await server.next_call()
                    assert await take_first_requests(call, 3) == ["CDS", "EDS", "LDS"]
                    status = client.status()
                    assert status.state is StreamState.CONNECTED
                    assert (status.next_attempt_at, status.connected_since is None) == (None, False)

    run(main())


@pytest.mark.parametrize(
    ("status", "message", "want"),
    [
        pytest.param(Status.UNAUTHENTICATED, "who are you", "UNAUTHENTICATED: who are you", id="refused"),
        pytest.param(Status.RESOURCE_EXHAUSTED, "", "RESOURCE_EXHAUSTED: no message", id="rate_limited"),
        pytest.param(Status.OK, "", "the server closed the stream", id="closed"),
    ],
)
@pytest.mark.parametrize("is_answered", [False, True], ids=["at_once", "later"])
def test_end_of_the_call_is_reported(status: Status, message: str, want: str, is_answered: bool) -> None:
    async def main() -> None:
        async with conversation() as (client, updates, server):
            call = await server.next_call()
            reading = asyncio.create_task(collect_for_ever(updates))
            if is_answered:
                await take_first_requests(call)
                await call.push(CDS, {"a": "1"})
                await call.receive()
            call.end(status, message)
            await server.next_call()
            assert client.status().last_error == want
            reading.cancel()

    run(main())


async def collect_for_ever(updates: AsyncIterator[Any]) -> None:
    async for _ in updates:
        pass


def test_response_that_is_not_read_yet_does_not_hide_that_the_stream_is_lost() -> None:
    async def main() -> None:
        async with conversation() as (client, updates, server):
            call = await server.next_call()
            await take_first_requests(call)
            await call.push(CDS, {"a": "1"})
            await next_update(updates)
            call.end(Status.INTERNAL, "gone")
            later = asyncio.create_task(next_update(updates))
            await server.next_call()
            assert client.status().last_error == "INTERNAL: gone"
            later.cancel()

    run(main())


def test_names_that_do_not_come_are_told_in_time() -> None:
    async def main() -> None:
        async with conversation(not_received_s=0.1) as (client, updates, server):
            client.subscribe(EDS.type_url, ["a"])
            await server.next_call()
            update = await next_update(updates)
            assert (update.type_url, update.removed, update.version) == (EDS.type_url, {"a"}, "")

    run(main())


def test_repeated_losses_are_logged_with_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with conversation() as (_, updates, server):
            call = await server.next_call()
            await take_first_requests(call)
            call.end(Status.UNAVAILABLE, "first")
            call = await server.next_call()
            await call.push(CDS, {})
            await next_update(updates)
            call.end(Status.UNAVAILABLE, "second")
            later = asyncio.create_task(next_update(updates))
            await server.next_call()
            later.cancel()

    with caplog.at_level(logging.INFO, "kmesh.xds.client"):
        run(main())
    got = [(r.levelname, r.error) for r in caplog.records if r.msg == "xds stream lost"]
    assert got == [("WARNING", "UNAVAILABLE: first"), ("INFO", "UNAVAILABLE: second")]


@LOOPS
def test_stopping_while_the_stream_is_lost_stops(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """grpclib cancels whoever waits on a lost stream: that must not use up the cancellation that stops the client."""

    async def main() -> None:
        for turns in range(12):
            async with conversation() as (_, _, server):
                call = await server.next_call()
                await take_first_requests(call)
                call.end(Status.UNAVAILABLE, "gone")
                for _ in range(turns):
                    await asyncio.sleep(0)

    run(main(), new_loop)


def test_a_bug_in_a_core_ends_the_client_instead_of_looking_like_a_lost_stream() -> None:
    async def main() -> None:
        async with conversation() as (client, _, server):
            def fail(response: Any, now: float) -> None:
                raise ZeroDivisionError

            client._core.receive = fail
            call = await server.next_call()
            await call.push(CDS, {"a": "1"})
            await asyncio.sleep(0.1)

    with pytest.raises(ExceptionGroup) as raised:
        run(main())
    assert raised.group_contains(ZeroDivisionError)


@LOOPS
def test_a_response_of_128_mib(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with conversation(Variant.SOTW) as (_, updates, server):
            call = await server.next_call()
            await take_first_requests(call)
            value = "x" * (1 << 20)
            started = time.monotonic()
            sending = asyncio.create_task(call.push(LDS, {f"l{i}": value for i in range(128)}))
            async with asyncio.timeout(20):
                update = await anext(updates)
                await sending
            assert len(update.changed) == 128
            assert time.monotonic() - started < 10

    run(main(), new_loop)
