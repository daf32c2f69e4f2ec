"""Where clients reach the relay: a listener on the loopback of each namespace, for each family.

The programs lead connect() there by km_acceptor, and write down whose connection it is (km_peer) before it can be
accepted. One without such a peer was made by hand by somebody in the pod: it is closed. Addresses are bound before
the loopback is up in a fresh pod (IP_FREEBIND); it is the pod's own to bring up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable

from kmesh.model.address import V4_MAPPED
from kmesh.relay.adoption import Adopted
from kmesh.relay.journal import Identity, Journal, Kind, cookie_of
from kmesh.relay.namespaces import Namespace
from kmesh.relay.stream_tables import Peer, StreamTables

__all__ = ["BACKLOG", "Acceptors"]

_log = logging.getLogger(__name__)
BACKLOG = 4096
_AT_ONCE = 64
"""Accepted before others have their turn."""
_PAUSE_S = 0.1
"""When descriptors have run out."""
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptors:
    """`accepted` is called with (socket, namespace, peer), and writes into the journal what the socket is. `counts`:
    accepted, strangers, failures."""

    def __init__(
        self,
        tables: StreamTables,
        journal: Journal,
        accepted: Callable[[socket.socket, Namespace, Peer], None],
        adopted: Adopted,
    ) -> None:
        """Of `adopted` the listeners are taken, each when its namespace is opened."""
        self._tables, self._journal, self._accepted = tables, journal, accepted
        self._adopted: dict[int, list[socket.socket]] = {}
        for found in adopted.acceptors:
            self._adopted.setdefault(found.was.identity.netns, []).append(found.sock)
        self._listeners: dict[int, list[socket.socket]] = {}
        self._namespaces: dict[int, Namespace] = {}
        self.counts: Counter[str] = Counter()

    async def open(self, namespace: Namespace) -> None:
        """Raises OSError when there can be none."""
        listeners = self._adopted.pop(namespace.cookie, []) or await self._listen(namespace)
        self._listeners[namespace.cookie], self._namespaces[namespace.cookie] = listeners, namespace
        for listener in listeners:
            self._resume(listener, namespace)
        self._tables.set_acceptor(namespace.cookie, *self.ports(namespace.cookie))

    def close(self, cookie: int) -> None:
        self._tables.delete_acceptor(cookie)
        del self._namespaces[cookie]
        for listener in self._listeners.pop(cookie):
            asyncio.get_running_loop().remove_reader(listener)
            self._close(listener)

    def close_unopened(self) -> None:
        """Adopted listeners of namespaces that are gone."""
        for cookie, listeners in self._adopted.items():
            self._tables.delete_acceptor(cookie)
            for listener in listeners:
                self._close(listener)
        self._adopted = {}

    def _close(self, listener: socket.socket) -> None:
        self._journal.slot(listener.fileno()).close()
        listener.close()

    async def _listen(self, namespace: Namespace) -> list[socket.socket]:
        listeners = [await _listen(namespace, socket.AF_INET, "127.0.0.1")]
        with contextlib.suppress(OSError):  # a kernel or a namespace without IPv6: its clients have none either
            listeners.append(await _listen(namespace, socket.AF_INET6, "::1"))
        for listener in listeners:
            identity = Identity(kind=Kind.ACCEPTOR, cookie=cookie_of(listener), netns=namespace.cookie)
            self._journal.slot(listener.fileno()).open(identity)
        return listeners

    def ports(self, cookie: int) -> tuple[int, int]:
        """Of 127.0.0.1 and of ::1; 0 for none."""
        ports = {listener.family: listener.getsockname()[1] for listener in self._listeners[cookie]}
        return ports.get(socket.AF_INET, 0), ports.get(socket.AF_INET6, 0)

    def accept_now(self, cookie: int) -> None:
        """What waits in this namespace."""
        for listener in self._listeners.get(cookie, ()):
            self._accept(listener, self._namespaces[cookie])

    def _resume(self, listener: socket.socket, namespace: Namespace) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, namespace)

    def _accept(self, listener: socket.socket, namespace: Namespace) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error, listener, namespace)
                return
            self.take(sock, address, namespace)

    def take(self, sock: socket.socket, address: tuple[str, int], namespace: Namespace) -> None:
        """One that was accepted, from `address`. What the maps say of it goes when the journal says it."""
        ip, port = address[:2]
        if sock.family == socket.AF_INET:
            addr16 = V4_MAPPED + socket.inet_aton(ip)
        else:
            addr16 = socket.inet_pton(socket.AF_INET6, ip)
        key, peer = self._tables.find_peer(namespace.cookie, addr16, port)
        if peer is None:
            self.counts["strangers"] += 1
            sock.close()
            return
        self.counts["accepted"] += 1
        self._accepted(sock, namespace, peer)
        self._tables.delete_peer(key)

    def _fail(self, error: OSError, listener: socket.socket, namespace: Namespace) -> None:
        """A connection that was reset in the queue is no failure; without descriptors wait for some."""
        if error.errno not in _NO_DESCRIPTORS:
            return
        self.counts["failures"] += 1
        if self.counts["failures"] % 100 == 1:
            _log.warning("accept_failed", extra={"namespace": namespace.inode, "why": str(error)})
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_PAUSE_S, self._resume, listener, namespace)


async def _listen(namespace: Namespace, family: socket.AddressFamily, ip: str) -> socket.socket:
    """Accepted sockets inherit TCP_NODELAY."""
    listener = await namespace.make_socket(family)
    try:
        if family == socket.AF_INET:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((ip, 0))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
