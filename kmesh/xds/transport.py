"""One gRPC stream to the ADS server: the only file of the client that knows grpclib.

Errors of sockets, TLS, HTTP/2 and gRPC end here: callers see StreamLost. Every TCP socket is made here and given
to `prepare_socket` before it connects, so that our own programs can be told never to rewrite it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from grpclib.client import Channel, Handler, Stream
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.config import H2Configuration
from h2.events import RemoteSettingsChanged

from kmesh.errors import ConfigError, StreamLost
from kmesh.xds.config import AdsConfig, Variant

__all__ = ["AdsStream", "PrepareSocket", "Resolve", "open_stream"]

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""A host name to IP addresses, in the order to try them. Raises: OSError when it cannot."""
PrepareSocket = Callable[[socket.socket], None]
"""Marks a socket, before it connects, as one of our own. Raises: OSError when it cannot."""

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_METHODS = {
    Variant.SOTW: (
        _SERVICE + "StreamAggregatedResources",
        discovery_pb2.DiscoveryRequest,
        discovery_pb2.DiscoveryResponse,
    ),
    Variant.DELTA: (
        _SERVICE + "DeltaAggregatedResources",
        discovery_pb2.DeltaDiscoveryRequest,
        discovery_pb2.DeltaDiscoveryResponse,
    ),
}
_KEEPALIVE_PROBES = 3
_TRAILERS_TIMEOUT_S = 5.0


@asynccontextmanager
async def open_stream(
    config: AdsConfig, resolve: Resolve, prepare_socket: PrepareSocket
) -> AsyncIterator[AdsStream]:
    """Connect and open the ADS call. Raises: StreamLost, also out of the body when the stream ends.

    The task that runs it should end with it: grpclib cancels the tasks that wait on a stream that is lost, which
    leaves a mark on them (asyncio.Task.cancelling) that others would take for a real cancellation.
    """
    metadata = _read_credentials(config)
    channel = _Channel(config, _make_tls(config), resolve, prepare_socket)
    path, request_type, response_type = _METHODS[config.variant]
    call = channel.request(path, Cardinality.STREAM_STREAM, request_type, response_type, metadata=metadata)
    try:
        async with call:
            await call.send_request()
            yield AdsStream(channel, call, config.send_timeout_s)
            await call.cancel()
    except GRPCError as error:
        raise StreamLost(f"{error.status.name}: {error.message or 'no message'}") from error
    except StreamTerminatedError as error:
        raise StreamLost(str(error)) from error
    except OSError as error:
        raise StreamLost(f"cannot connect: {_describe(error)}") from error
    finally:
        channel.close()


class AdsStream:
    """An open call. One task may receive while another sends."""

    def __init__(self, channel: Channel, call: Stream[Any, Any], send_timeout_s: float) -> None:
        self._channel = channel
        self._call = call
        self._send_timeout_s = send_timeout_s
        self._send_failure: StreamLost | None = None

    async def send(self, request: Any) -> None:
        """Raises: StreamLost; a receive() in progress, or the next one, then fails too."""
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await self._call.send_message(request)
        except StreamTerminatedError as error:
            raise StreamLost(str(error)) from error
        except Exception as error:  # h2 and grpclib raise many kinds once a connection is going down
            self._send_failure = StreamLost(f"cannot send: {_describe(error)}")
            self._channel.close()
            raise self._send_failure from error

    async def receive(self) -> Any:
        """The next response, read only now: flow control holds back what comes after it. Raises: StreamLost, or
        the errors by which open_stream() finds the call's status."""
        try:
            response = await self._call.recv_message()
        except StreamTerminatedError:
            if self._send_failure is not None:
                raise self._send_failure from None
            raise
        except GRPCError:
            raise
        except Exception as error:  # a compressed, truncated or undecodable message
            raise StreamLost(f"the server sent no valid message: {_describe(error)}") from error
        if response is None:
            await self._read_status()
            raise StreamLost("the server closed the stream")
        return response

    async def _read_status(self) -> None:
        """The server ended the call: raise GRPCError when it did so with an error."""
        try:
            async with asyncio.timeout(_TRAILERS_TIMEOUT_S):
                await self._call.end()
                await self._call.recv_trailing_metadata()
        except (GRPCError, StreamTerminatedError):
            raise
        except Exception as error:
            raise StreamLost(f"the server closed the stream without a status: {_describe(error)}") from error


class _Protocol(H2Protocol):
    """Tells when the server has sent its SETTINGS, or the connection is gone."""

    def __init__(self, handler: Handler, config: Configuration, h2_config: H2Configuration) -> None:
        super().__init__(handler, config, h2_config)
        self.answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        apply_settings: Any = self.processor.processors[RemoteSettingsChanged]

        def receive_settings(event: RemoteSettingsChanged) -> None:
            apply_settings(event)
            self.answered.set()

        self.processor.processors[RemoteSettingsChanged] = receive_settings

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.answered.set()


class _Channel(Channel):
    """A grpclib channel whose sockets are our own."""

    def __init__(
        self, config: AdsConfig, tls: ssl.SSLContext | None, resolve: Resolve, prepare_socket: PrepareSocket
    ) -> None:
        server = config.server
        host, port = ("localhost", None) if isinstance(server, Path) else (server.host, server.port)
        super().__init__(
            host=config.server_name or host,
            port=port,
            ssl=tls,
            config=Configuration(
                _keepalive_time=config.ping_interval_s,
                _keepalive_timeout=config.ping_timeout_s,
                _http2_max_pings_without_data=0,
                _http2_min_sent_ping_interval_without_data=config.ping_interval_s / 2,
                http2_connection_window_size=config.window_bytes,
                http2_stream_window_size=config.window_bytes,
            ),
        )
        self._settings = config
        self._tls = tls
        self._tls_name = (config.server_name or host) if tls else None
        self._resolve = resolve
        self._prepare_socket = prepare_socket

    def _protocol_factory(self) -> _Protocol:
        """Replaces grpclib's."""
        return _Protocol(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        """Replaces grpclib's. Raises: OSError."""
        server = self._settings.server
        if isinstance(server, Path):
            return await self._await_server(self._connect_unix(server))
        errors = []
        for ip in await self._find_addresses(server.host):
            try:
                return await self._await_server(self._connect_tcp(ip, server.port))
            except OSError as error:
                errors.append(f"{ip}: {_describe(error)}")
        raise OSError("; ".join(errors) or f"{server.host} has no address")

    async def _await_server(self, connecting: Coroutine[Any, Any, _Protocol]) -> H2Protocol:
        """A connection counts once the server has sent its SETTINGS, as HTTP/2 servers do unasked (RFC 9113, 3.4):
        what only accepts connections is no better than what refuses them."""
        async with asyncio.timeout(self._settings.connect_timeout_s):
            protocol = await connecting
            try:
                await protocol.answered.wait()
                if protocol.connection.is_closing():
                    raise OSError("the server closed the connection at once")
            except BaseException:
                protocol.processor.close()
                raise
        return protocol

    async def _find_addresses(self, host: str) -> Sequence[str]:
        return [host] if _parse_ip(host) else await self._resolve(host)

    async def _connect_unix(self, path: Path) -> _Protocol:
        _, protocol = await asyncio.get_running_loop().create_unix_connection(
            self._protocol_factory, str(path), ssl=self._tls, server_hostname=self._tls_name
        )
        return protocol

    async def _connect_tcp(self, ip: str, port: int) -> _Protocol:
        if self._settings.token_file and not self._tls and not _is_loopback(ip):
            raise OSError("will not send the token in plaintext: use TLS")
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _set_keepalive(sock, self._settings.tcp_keepalive_s)
            self._prepare_socket(sock)
            await loop.sock_connect(sock, (ip, port))
            _, protocol = await loop.create_connection(
                self._protocol_factory, sock=sock, ssl=self._tls, server_hostname=self._tls_name
            )
        except BaseException:
            sock.close()
            raise
        return protocol


def _set_keepalive(sock: socket.socket, idle_s: int) -> None:
    """Lose a connection to a host that is gone after about twice `idle_s`, idle or not."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle_s // _KEEPALIVE_PROBES))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2 * idle_s * 1000)


def _read_credentials(config: AdsConfig) -> dict[str, str]:
    """Request metadata. Raises: StreamLost when the token cannot be read, since a control plane that wants one
    would refuse us anyway, with a less helpful message."""
    if config.token_file is None:
        return {}
    try:
        token = config.token_file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StreamLost(f"cannot read the token file: {_describe(error)}") from error
    if not token or not token.isprintable():
        raise StreamLost(f"the token file {config.token_file} holds no token")
    return {"authorization": f"Bearer {token}"}


def _make_tls(config: AdsConfig) -> ssl.SSLContext | None:
    """The context of one connection. Raises: StreamLost when its files do not serve now: they may be half rotated."""
    if config.tls is None:
        return None
    try:
        context = config.tls()
    except ConfigError as error:
        raise StreamLost(str(error)) from error
    context.set_alpn_protocols(["h2"])
    return context


def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(ip: str) -> bool:
    address = _parse_ip(ip)
    return address is not None and (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _describe(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error) or type(error).__name__
