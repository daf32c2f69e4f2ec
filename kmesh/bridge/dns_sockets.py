"""dnspython's I/O, on sockets that are prepared before they touch the network.

The kernel programs rewrite connections of enrolled processes; the bridge's own must be exempt, and that is said of
each socket before its first connect or send.
"""

# ruff: noqa: ASYNC109  (dnspython hands a timeout to each operation)

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import dns.exception
import dns.inet

# The public dns.asyncbackend has these names too, but does not export them to type checkers.
from dns._asyncbackend import Backend, DatagramSocket, Socket, StreamSocket

__all__ = ["PrepareSocket", "PreparedBackend"]

PrepareSocket = Callable[[socket.socket], None]
"""Called with each socket after it is made and before it connects or sends. What it raises abandons the socket."""

T = TypeVar("T")


class PreparedBackend(Backend):
    """Every socket is connected, UDP too: the kernel then drops datagrams from anyone but the server, and reports
    a refused port at once."""

    def __init__(self, prepare_socket: PrepareSocket) -> None:
        self._prepare_socket = prepare_socket

    def name(self) -> str:
        return "asyncio"

    def datagram_connection_required(self) -> bool:
        return True

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: Any = None,
    ) -> Socket:
        """A connected socket. Sources and TLS are not asked for by a resolver that reads resolv.conf."""
        assert source is None and ssl_context is None and destination is not None
        address = dns.inet.low_level_address_tuple(destination, af)
        sock = socket.socket(af, socktype | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
        try:
            self._prepare_socket(sock)
            await _within(timeout, asyncio.get_running_loop().sock_connect(sock, address))
        except BaseException:
            sock.close()
            raise
        return _Datagrams(sock, address) if socktype == socket.SOCK_DGRAM else _Stream(sock)

    async def sleep(self, interval: float) -> None:
        await asyncio.sleep(interval)

    async def wait_for(self, awaitable: Awaitable[T], timeout: float | None) -> T:
        return await _within(timeout, awaitable)


class _Datagrams(DatagramSocket):
    def __init__(self, sock: socket.socket, peer: Any) -> None:
        super().__init__(sock.family, socket.SOCK_DGRAM)
        self._sock = sock
        self._peer = peer

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        await _within(timeout, asyncio.get_running_loop().sock_sendall(self._sock, what))
        return len(what)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        return await _within(timeout, asyncio.get_running_loop().sock_recv(self._sock, size)), self._peer

    async def close(self) -> None:
        self._sock.close()


class _Stream(StreamSocket):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, socket.SOCK_STREAM)
        self._sock = sock

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        await _within(timeout, asyncio.get_running_loop().sock_sendall(self._sock, what))

    async def recv(self, size: int, timeout: float | None) -> bytes:
        return await _within(timeout, asyncio.get_running_loop().sock_recv(self._sock, size))

    async def close(self) -> None:
        self._sock.close()


async def _within(timeout: float | None, awaitable: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(timeout):
            return await awaitable
    except TimeoutError:
        raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]
