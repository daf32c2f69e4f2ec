"""A real gRPC ADS server whose every word is the test's: each call is handed to the test, which reads and answers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from kmesh.xds.config import Variant
from kmesh.xds.resource_type import ResourceType
from tests.support.xds_kinds import build_any

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
TIMEOUT_S = 5.0

Bodies = Sequence[tuple[str, Any]]
"""Resources by name (of which delta's wrapper tells), each a google.protobuf.Any."""


class Call:
    """One ADS stream, seen from the server."""

    def __init__(self, variant: Variant, stream: Stream[Any, Any]) -> None:
        self.variant = variant
        self.metadata: Mapping[str, Any] = dict(stream.metadata or {})
        self._stream = stream
        self._nonces = 0
        self._end: asyncio.Future[tuple[Status, str]] = asyncio.get_running_loop().create_future()

    @property
    def client_name(self) -> str:
        """The common name in the client's certificate, "" without one."""
        peer = self._stream.peer
        subject = ((peer.cert() if peer else None) or {}).get("subject", ())
        return next((value for ((key, value),) in subject if key == "commonName"), "")

    async def receive(self) -> Any:
        """The next request."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._stream.recv_message()

    async def push(self, kind: ResourceType, resources: Mapping[str, str], version: str = "v1") -> str:
        """Send a response; returns its nonce."""
        bodies = [(name, build_any(kind, name, value)) for name, value in resources.items()]
        return await self.push_bodies(kind, bodies, version)

    async def push_bodies(self, kind: ResourceType, bodies: Bodies, version: str = "v1") -> str:
        """As push(), with resources of any content."""
        self._nonces += 1
        await self.send(self._build(kind, bodies, version))
        return f"n{self._nonces}"

    async def send(self, response: Any) -> None:
        await self._stream.send_message(response)

    def end(self, status: Status = Status.OK, message: str = "") -> None:
        if not self._end.done():
            self._end.set_result((status, message))

    async def serve_until_end(self) -> None:
        status, message = await self._end
        if status is not Status.OK:
            raise GRPCError(status, message)

    def _build(self, kind: ResourceType, bodies: Bodies, version: str) -> Any:
        nonce = f"n{self._nonces}"
        if self.variant is Variant.SOTW:
            return discovery_pb2.DiscoveryResponse(
                type_url=kind.type_url, version_info=version, nonce=nonce, resources=[body for _, body in bodies]
            )
        wrapped = [discovery_pb2.Resource(name=n, version=version, resource=body) for n, body in bodies]
        return discovery_pb2.DeltaDiscoveryResponse(
            type_url=kind.type_url, system_version_info=version, nonce=nonce, resources=wrapped
        )


class AdsServer:
    def __init__(self) -> None:
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._open: set[Call] = set()

    async def next_call(self) -> Call:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._calls.get()

    def end_calls(self) -> None:
        for call in self._open:
            call.end()

    def __mapping__(self) -> dict[str, Handler]:
        async def serve_sotw(stream: Stream[Any, Any]) -> None:
            await self._serve(Variant.SOTW, stream)

        async def serve_delta(stream: Stream[Any, Any]) -> None:
            await self._serve(Variant.DELTA, stream)

        bidi = Cardinality.STREAM_STREAM
        pb = discovery_pb2
        return {
            _SERVICE + "StreamAggregatedResources": Handler(
                serve_sotw, bidi, pb.DiscoveryRequest, pb.DiscoveryResponse
            ),
            _SERVICE + "DeltaAggregatedResources": Handler(
                serve_delta, bidi, pb.DeltaDiscoveryRequest, pb.DeltaDiscoveryResponse
            ),
        }

    async def _serve(self, variant: Variant, stream: Stream[Any, Any]) -> None:
        call = Call(variant, stream)
        self._open.add(call)
        self._calls.put_nowait(call)
        try:
            await call.serve_until_end()
        finally:
            self._open.discard(call)


@asynccontextmanager
async def serve_ads(
    listen: socket.socket | Path, tls: ssl.SSLContext | None = None
) -> AsyncIterator[AdsServer]:
    """Serve on a listening or bound TCP socket, or on a Unix socket of that path."""
    ads = AdsServer()
    server = Server([ads])
    if isinstance(listen, Path):
        await server.start(path=str(listen), ssl=tls)
    else:
        await server.start(sock=listen, ssl=tls)
    try:
        yield ads
    finally:
        ads.end_calls()
        server.close()
        await server.wait_closed()


def bind_loopback(ip: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound socket that does not listen yet: connections are refused until it is served on."""
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ip, port))
    return sock
