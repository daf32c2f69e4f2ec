"""The gRPC side of the ADS server: sockets and streams around the sans-IO cores.

Each stream has one task that reads requests and one that writes responses. The writer asks its core for the next
response only once the transport has taken the last, so a slow client holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from envoy.service.discovery.v3 import ads_pb2
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from h2.exceptions import ProtocolError as H2ProtocolError

from kmesh.errors import ConfigError, ProtocolError
from kmesh.model.address import HostAddress
from kmesh.xds.server.catalog import Catalog, type_name
from kmesh.xds.server.delta import DeltaStream
from kmesh.xds.server.exchange import Answer, Receipt
from kmesh.xds.server.sotw import SotwStream

__all__ = ["AdsServer"]

_SERVICE = ads_pb2.DESCRIPTOR.services_by_name["AggregatedDiscoveryService"].full_name
_ERROR_SHOWN = 1000

_Core = SotwStream | DeltaStream

log = logging.getLogger(__name__)


class AdsServer:
    """Serves one catalog to any number of clients, both variants of the protocol on one port.

        async with AdsServer(catalog, HostAddress("127.0.0.1", 0)) as server:
            connect(server.address)
            server.publish(changed_catalog)

    Port 0 takes a free one; a Path is a Unix socket. Belongs to the event loop it was started in.
    """

    def __init__(self, catalog: Catalog, listen: HostAddress | Path) -> None:
        self.address = listen
        """What clients connect to; once started, with the port that was bound."""
        self._catalog = catalog
        self._wakeups: set[asyncio.Event] = set()
        self._server: _ConnectionClosingServer | None = None

    def publish(self, catalog: Catalog) -> None:
        """Serve this from now on: every stream is sent what differs from what it was sent last."""
        self._catalog = catalog
        for wakeup in self._wakeups:
            wakeup.set()

    async def start(self) -> None:
        """Raises ConfigError when the address cannot be bound."""
        server = _ConnectionClosingServer([self])
        try:
            if isinstance(self.address, Path):
                await server.start(path=str(self.address))
            else:
                listener = _listen(self.address)
                await server.start(sock=listener)
                self.address = HostAddress(self.address.host, listener.getsockname()[1])
        except OSError as e:
            raise ConfigError(f"cannot listen on {self.address}: {e.strerror or e}") from e
        self._server = server

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._server is None:
            return
        self._server.close()
        await self._server.wait_closed()
        self._server = None
        if isinstance(self.address, Path):
            self.address.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __mapping__(self) -> dict[str, Handler]:
        """The methods of the service, as grpclib asks for them."""
        return {
            f"/{_SERVICE}/StreamAggregatedResources": Handler(
                self._stream_sotw, Cardinality.STREAM_STREAM, DiscoveryRequest, DiscoveryResponse
            ),
            f"/{_SERVICE}/DeltaAggregatedResources": Handler(
                self._stream_delta, Cardinality.STREAM_STREAM, DeltaDiscoveryRequest, DeltaDiscoveryResponse
            ),
        }

    async def _stream_sotw(self, stream: Stream[DiscoveryRequest, DiscoveryResponse]) -> None:
        await self._run(stream, SotwStream())

    async def _stream_delta(self, stream: Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]) -> None:
        await self._run(stream, DeltaStream())

    async def _run(self, stream: Stream[Any, Any], core: _Core) -> None:
        wakeup = asyncio.Event()
        self._wakeups.add(wakeup)
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(stream, core, wakeup))
                refusal = await _read(stream, core, wakeup)
                writer.cancel()
        finally:
            self._wakeups.discard(wakeup)
            log.info("stream closed: node %r", core.node_id)
        if refusal is not None:
            raise GRPCError(Status.INVALID_ARGUMENT, str(refusal))

    async def _write(self, stream: Stream[Any, Any], core: _Core, wakeup: asyncio.Event) -> None:
        try:
            await stream.send_initial_metadata()
            while True:
                wakeup.clear()
                now = time.monotonic()
                response = core.next_response(self._catalog, now)
                if response is None:
                    await _wait(wakeup, core.deadline(now), now)
                else:
                    _log_response(core, response)
                    await stream.send_message(response)
        except H2ProtocolError:
            log.debug("stream closed by node %r while it was written to", core.node_id)


async def _read(stream: Stream[Any, Any], core: _Core, wakeup: asyncio.Event) -> ProtocolError | None:
    """Until the client ends the stream, or breaks the protocol: that error is returned."""
    is_known = False
    async for request in stream:
        try:
            receipt = core.receive(request)
        except ProtocolError as e:
            return e
        if not is_known:
            is_known = True
            log.info("stream opened: node %r, %s", core.node_id, type(core).__name__)
        _log_receipt(core, receipt)
        wakeup.set()
    return None


async def _wait(wakeup: asyncio.Event, deadline: float | None, now: float) -> None:
    # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the wakeup.
    with suppress(TimeoutError):
        async with asyncio.timeout(None if deadline is None else deadline - now):
            await wakeup.wait()


def _log_receipt(core: _Core, receipt: Receipt) -> None:
    kind = type_name(receipt.type_url)
    if receipt.error is not None:
        shown = " ".join(receipt.error[:_ERROR_SHOWN].split())
        log.warning("NACK: node %r, %s, nonce %r: %s", core.node_id, kind, receipt.nonce, shown)
    elif receipt.is_stale:
        log.debug("stale: node %r, %s, nonce %r", core.node_id, kind, receipt.nonce)
    else:
        what = "ACK" if receipt.answer is Answer.ACK else "request"
        log.debug("%s: node %r, %s, nonce %r", what, core.node_id, kind, receipt.nonce)


def _log_response(core: _Core, response: DiscoveryResponse | DeltaDiscoveryResponse) -> None:
    kind = type_name(response.type_url)
    log.debug("response: node %r, %s, nonce %r: %d", core.node_id, kind, response.nonce, len(response.resources))


def _listen(address: HostAddress) -> socket.socket:
    """Raises OSError."""
    family, _, _, _, sockaddr = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((sockaddr[0], sockaddr[1]), family=family)


class _ConnectionClosingServer(Server):
    """grpclib's server leaves connections open when it closes, and their clients waiting."""

    def __init__(self, services: Collection[AdsServer]) -> None:
        super().__init__(services)
        self._protocols: WeakSet[H2Protocol] = WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._protocols.add(protocol)
        return protocol

    def close(self) -> None:
        super().close()
        for protocol in self._protocols:
            if hasattr(protocol, "processor"):  # not before its connection is made
                protocol.processor.close("the server stopped")
