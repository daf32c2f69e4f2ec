"""Connections to endpoints of clusters, which are chosen by the records in the kernel's maps.

    a cluster's cell leads to       becomes
    BACKEND                         a connection to its address
    PASS                            a connection to the address that the client asked for
    REFUSE, or nothing              DialError in Envoy's words
    a record that is missing        looked up anew: the configuration is changing; then DialError

An endpoint with an address of each family is tried by IPv4 first, and by IPv6 where the namespace has no way to the
former. Sockets are marked as kmesh's own, so that no program rewrites what they connect to.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import getrandbits

from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.descent import Descent, descend, read_cell
from kmesh.kernel.live_tables import LiveCursors, open_live_tables
from kmesh.kernel.sockets import OwnSockets
from kmesh.maps.image import MapName
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action, Family, Reason
from kmesh.records.layout import BACKEND, ENTRY, ID, NODE
from kmesh.relay.namespaces import Namespace
from kmesh.relay.replies import NO_HEALTHY_UPSTREAM, describe_reset

__all__ = ["SEND_BYTES", "DialError", "Dialled", "Dialler", "Endpoint"]

SEND_BYTES = 1 << 20
"""Of an upstream connection's send buffer, which programs fill without waiting (decision 9)."""
_SO_SNDBUFFORCE = 32
_TRIES = 8
_NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EHOSTUNREACH}


class DialError(Exception):
    """`body` is Envoy's for the request that wanted the connection, `reason` a word or two for counters."""

    def __init__(self, reason: str, body: bytes, *, status: int = 503) -> None:
        super().__init__(reason)
        self.reason, self.body, self.status = reason, body, status

    @property
    def is_final(self) -> bool:
        """There is nothing that another try could reach."""
        return self.body == NO_HEALTHY_UPSTREAM


@dataclass(frozen=True, slots=True)
class Endpoint:
    backend: int
    """Its id; 0 for the address that the client asked for."""
    addresses: tuple[SocketAddress, ...]
    """In the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Dialled:
    sock: socket.socket
    backend: int
    address: SocketAddress


class Dialler:
    """`failures` counts what could not be made, by reason."""

    def __init__(self, maps_dir: Path) -> None:
        names = (MapName.CLUSTER, MapName.NODE, MapName.BACKEND, MapName.CURSOR)
        self._tables = open_live_tables(maps_dir, names)
        self._cursors = LiveCursors(self._tables[MapName.CURSOR])
        self._own = OwnSockets(maps_dir)
        self.failures: Counter[str] = Counter()

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        self._own.close()

    def read_target(self, cluster: int) -> tuple[int, int] | None:
        """(action, target) of the cluster's cell, which change when its endpoints do; None when there is none.

        Raises Broken, OSError.
        """
        return read_cell(self._tables[MapName.CLUSTER], ID.pack(cluster))

    def choose(self, cluster: int, asked: SocketAddress | None = None) -> Endpoint:
        """One draw. `asked` is what the client's connect() named. Raises DialError, OSError."""
        for _ in range(_TRIES):
            try:
                return self._choose(cluster, asked)
            except Broken:
                continue
        raise self._fail("broken records", NO_HEALTHY_UPSTREAM)

    def list_backends(self, cluster: int) -> frozenset[int] | None:
        """Ids of all endpoints that a draw may choose; None when one may choose something else, or is dropped.

        Raises OSError.
        """
        for _ in range(_TRIES):
            try:
                return frozenset(self._walk(Action.CLUSTER, cluster))
            except _Other:
                return None
            except Broken:
                continue
        return frozenset()

    def has_backend(self, cluster: int, backend: int) -> bool:
        """Whether it is one that a draw may choose. Raises OSError."""
        return backend in (self.list_backends(cluster) or ())

    async def dial(
        self, namespace: Namespace, cluster: int, *, timeout_s: float, asked: SocketAddress | None = None
    ) -> Dialled:
        """A connection from inside the namespace. Raises DialError."""
        try:
            endpoint = self.choose(cluster, asked)
            return await self._connect_any(namespace, endpoint, timeout_s)
        except TimeoutError:
            raise self._fail("connection timeout", describe_reset(b"connection timeout")) from None
        except OSError as error:
            raise self._fail(*_describe(error)) from None

    def _choose(self, cluster: int, asked: SocketAddress | None) -> Endpoint:
        descent = Descent(tables=self._tables, draw=lambda: getrandbits(32), cursors=self._cursors)
        way = self.read_target(cluster)
        if way is None:
            raise self._fail("no cluster", NO_HEALTHY_UPSTREAM)
        action, target = descend(descent, *way, through=(Action.CLUSTER, Action.NODE))
        if action == Action.BACKEND:
            return Endpoint(target, self._read_addresses(target))
        if action == Action.PASS and asked:
            return Endpoint(0, (asked,))
        if action == Action.REFUSE and target == Reason.OVERLOAD_DROP:
            raise self._fail("overload drop", b"drop overload")
        raise self._fail("no healthy upstream", NO_HEALTHY_UPSTREAM)

    def _read_addresses(self, backend: int) -> tuple[SocketAddress, ...]:
        record = self._tables[MapName.BACKEND].get(ID.pack(backend))
        if record is None:
            raise Broken
        addr6, addr4, port6_be, port4_be, families, _, _ = BACKEND.struct.unpack(record)
        found = []
        if families & Family.V4:
            found.append(SocketAddress(bytes(10) + b"\xff\xff" + addr4, socket.ntohs(port4_be)))
        if families & Family.V6:
            found.append(SocketAddress(addr6, socket.ntohs(port6_be)))
        if not found:
            raise Broken
        return tuple(found)

    def _walk(self, action: int, target: int) -> Iterator[int]:
        """Backends below. Raises Broken, _Other."""
        if action == Action.BACKEND:
            yield target
        elif action == Action.CLUSTER:
            way = self.read_target(target)
            if way is None or way == (Action.REFUSE, Reason.NO_ENDPOINT):
                return
            yield from self._walk(*way)
        elif action == Action.NODE:
            record = self._tables[MapName.NODE].get(ID.pack(target))
            if record is None:
                raise Broken
            for below in _list_entries(record):
                yield from self._walk(*below)
        else:
            raise _Other

    async def _connect_any(self, namespace: Namespace, endpoint: Endpoint, timeout_s: float) -> Dialled:
        """Raises OSError; TimeoutError, which is one."""
        async with asyncio.timeout(timeout_s):
            *others, last = endpoint.addresses
            for address in others:
                try:
                    return Dialled(await self._connect(namespace, address), endpoint.backend, address)
                except OSError as error:
                    if error.errno not in _NO_WAY:
                        raise
            return Dialled(await self._connect(namespace, last), endpoint.backend, last)

    async def _connect(self, namespace: Namespace, address: SocketAddress) -> socket.socket:
        family = socket.AF_INET if address.is_v4 else socket.AF_INET6
        sock = await namespace.make_socket(family)
        try:
            self._own.mark(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _enlarge_send_buffer(sock)
            await _start_connect(sock, (address.ip, address.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _fail(self, reason: str, body: bytes) -> DialError:
        self.failures[reason] += 1
        return DialError(reason, body)


class _Other(Exception):
    """A cluster's tree leads to what is no backend."""


def _list_entries(node: bytes) -> set[tuple[int, int]]:
    """(action, target) of each that a draw may choose."""
    _, count, _, _, _, entries = NODE.struct.unpack(node)
    rows = [ENTRY.struct.unpack_from(entries, at * ENTRY.size) for at in range(count)]
    return {(action, target) for _, _, action, target in rows if action != Action.NONE}


def _enlarge_send_buffer(sock: socket.socket) -> None:
    """Beyond net.core.wmem_max where this process may (CAP_NET_ADMIN)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)


async def _start_connect(sock: socket.socket, address: tuple[str, int]) -> None:
    """On one node it is done between the two calls, which costs no turn of the loop. Raises OSError."""
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        error = sock.connect_ex(address)
    if error in (0, errno.EISCONN):
        return
    if error not in (errno.EINPROGRESS, errno.EALREADY):
        raise OSError(error, os.strerror(error))
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    fd = sock.fileno()
    loop.add_writer(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _describe(error: OSError) -> tuple[str, bytes]:
    """(reason, body)."""
    why = errno.errorcode.get(error.errno or 0, "error").lower()
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        return f"local: {why}", describe_reset(b"local connection failure")
    return why, describe_reset(b"remote connection failure")
