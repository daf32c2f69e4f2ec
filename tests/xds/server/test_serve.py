"""kmesh.xds.server.serve: real gRPC clients over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from grpclib.client import Channel, Stream, StreamStreamMethod
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import StreamClosedError

from kmesh.errors import ConfigError
from kmesh.model.address import HostAddress
from kmesh.xds.server import AdsServer
from kmesh.xds.server.catalog import CDS, EDS
from tests.support.ads_driver import catalog_of, cluster
from tests.support.mesh import generate_mesh

LOOPBACK = HostAddress("127.0.0.1", 0)
SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
METHODS: dict[str, tuple[str, Any, Any]] = {
    "sotw": (f"{SERVICE}/StreamAggregatedResources", DiscoveryRequest, DiscoveryResponse),
    "delta": (f"{SERVICE}/DeltaAggregatedResources", DeltaDiscoveryRequest, DeltaDiscoveryResponse),
}
TIMEOUT_S = 5.0

both_variants = pytest.mark.parametrize("variant", METHODS)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On uvloop, as in the product, and never for long."""
    uvloop.run(asyncio.wait_for(scenario(), 20))


@asynccontextmanager
async def open_stream(
    address: HostAddress | Path, variant: str, window: int | None = None
) -> AsyncIterator[Stream[Any, Any]]:
    """`window` is how many bytes the server may send ahead of what was read."""
    config = Configuration(http2_connection_window_size=window, http2_stream_window_size=window) if window else None
    if isinstance(address, Path):
        channel = Channel(path=str(address), config=config)
    else:
        channel = Channel(address.host, address.port, config=config)
    try:
        async with StreamStreamMethod(channel, *METHODS[variant]).open() as stream:
            try:
                yield stream
            finally:
                with suppress(StreamClosedError):
                    await stream.cancel()
    finally:
        channel.close()


async def subscribe(stream: Stream[Any, Any], variant: str, type_url: str, *names: str) -> None:
    request = METHODS[variant][1](type_url=type_url)
    request.node.id = "client"
    (request.resource_names if variant == "sotw" else request.resource_names_subscribe).extend(names)
    await stream.send_message(request)


async def receive(stream: Stream[Any, Any], *names: str) -> Any:
    """The next response, acknowledged; SotW repeats the names of the subscription."""
    response = await asyncio.wait_for(stream.recv_message(), TIMEOUT_S)
    assert response is not None
    request: Any
    if isinstance(response, DiscoveryResponse):
        request = DiscoveryRequest(version_info=response.version_info, resource_names=names)
    else:
        request = DeltaDiscoveryRequest()
    request.type_url, request.response_nonce = response.type_url, response.nonce
    await stream.send_message(request)
    return response


@both_variants
def test_a_change_is_pushed_to_every_client(variant: str) -> None:
    async def scenario() -> None:
        async with (
            AdsServer(catalog_of(cluster("a")), LOOPBACK) as server,
            open_stream(server.address, variant) as one,
            open_stream(server.address, variant) as other,
        ):
            for stream in (one, other):
                await subscribe(stream, variant, CDS)
                assert len((await receive(stream)).resources) == 1
            server.publish(catalog_of(cluster("a"), cluster("b")))
            for stream in (one, other):
                assert len((await receive(stream)).resources) == (2 if variant == "sotw" else 1)

    run(scenario)


def test_both_variants_are_served_on_one_connection() -> None:
    async def scenario() -> None:
        async with AdsServer(catalog_of(cluster("a")), LOOPBACK) as server:
            assert isinstance(server.address, HostAddress)
            channel = Channel(server.address.host, server.address.port)
            for variant in METHODS:
                async with StreamStreamMethod(channel, *METHODS[variant]).open() as stream:
                    await subscribe(stream, variant, CDS)
                    assert len((await receive(stream)).resources) == 1
                    await stream.end()
            channel.close()

    run(scenario)


@both_variants
def test_a_client_that_does_not_read_holds_up_nobody_and_gets_the_latest_state(variant: str) -> None:
    mesh = generate_mesh(50, 1000)
    names = [a.cluster_name for a in mesh.assignments]

    async def scenario() -> None:
        async with (
            AdsServer(mesh.catalog(), LOOPBACK) as server,
            open_stream(server.address, variant, window=1 << 16) as slow,
            open_stream(server.address, variant) as fast,
        ):
            await subscribe(slow, variant, EDS, *names)
            await asyncio.sleep(0.1)
            await subscribe(fast, variant, EDS, *names)
            assert len((await receive(fast, *names)).resources) == 50
            for step in range(3):
                mesh.assignments[0].policy.overprovisioning_factor.value = 200 + step
                server.publish(mesh.catalog())
                assert len((await receive(fast, *names)).resources) == 1
            first = await receive(slow, *names)
            assert len(first.resources) == 50
            assert len((await receive(slow, *names)).resources) == 1
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.recv_message(), 0.2)

    run(scenario)


@both_variants
def test_a_request_without_type_ends_the_stream_and_says_why(variant: str) -> None:
    async def scenario() -> None:
        async with AdsServer(catalog_of(), LOOPBACK) as server:
            with pytest.raises(GRPCError) as caught:
                async with open_stream(server.address, variant) as stream:
                    await subscribe(stream, variant, "")
                    await asyncio.wait_for(stream.recv_message(), TIMEOUT_S)
        assert caught.value.status is Status.INVALID_ARGUMENT
        assert "type_url" in (caught.value.message or "")

    run(scenario)


@both_variants
def test_a_client_that_ends_its_stream_is_let_go(variant: str) -> None:
    async def scenario() -> None:
        async with (
            AdsServer(catalog_of(cluster("a")), LOOPBACK) as server,
            open_stream(server.address, variant) as stream,
        ):
            await subscribe(stream, variant, CDS)
            await receive(stream)
            await stream.end()
            assert await asyncio.wait_for(stream.recv_message(), TIMEOUT_S) is None

    run(scenario)


@both_variants
def test_stopping_ends_the_streams_of_all_clients(variant: str) -> None:
    async def scenario() -> None:
        server = AdsServer(catalog_of(cluster("a")), LOOPBACK)
        await server.start()
        with pytest.raises((StreamTerminatedError, GRPCError)):
            async with open_stream(server.address, variant) as stream:
                await subscribe(stream, variant, CDS)
                await receive(stream)
                await server.stop()
                await asyncio.wait_for(stream.recv_message(), TIMEOUT_S)
        assert isinstance(server.address, HostAddress)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.address.host, server.address.port)

    run(scenario)


def test_refusals_are_logged_with_the_clients_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with (
            AdsServer(catalog_of(cluster("a")), LOOPBACK) as server,
            open_stream(server.address, "sotw") as stream,
        ):
            await subscribe(stream, "sotw", CDS)
            response = await asyncio.wait_for(stream.recv_message(), TIMEOUT_S)
            refusal = DiscoveryRequest(type_url=CDS, response_nonce=response.nonce)
            refusal.error_detail.message = "a:\nno such thing" + "!" * 5000
            await stream.send_message(refusal)
            await stream.end()
            await asyncio.wait_for(stream.recv_message(), TIMEOUT_S)

    def found() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    run(scenario)
    assert len(found()) == 1 and len(found()[0]) < 1200
    assert found()[0].startswith("NACK: node 'client', Cluster, nonce '1': a: no such thing!")


def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "ads.sock"

    async def scenario() -> None:
        async with AdsServer(catalog_of(cluster("a")), path) as server, open_stream(server.address, "sotw") as stream:
            await subscribe(stream, "sotw", CDS)
            assert len((await receive(stream)).resources) == 1

    run(scenario)
    assert not path.exists()


def test_ipv6_is_served() -> None:
    async def scenario() -> None:
        listen = HostAddress("::1", 0)
        async with (
            AdsServer(catalog_of(cluster("a")), listen) as server,
            open_stream(server.address, "sotw") as stream,
        ):
            await subscribe(stream, "sotw", CDS)
            assert len((await receive(stream)).resources) == 1

    run(scenario)


def test_an_address_in_use_is_an_error_of_the_settings() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
                await AdsServer(catalog_of(), HostAddress("127.0.0.1", port)).start()

    run(scenario)


def test_an_unknown_host_is_an_error_of_the_settings() -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match=r"cannot listen on 300\.0\.0\.1:1"):
            await AdsServer(catalog_of(), HostAddress("300.0.0.1", 1)).start()

    run(scenario)
