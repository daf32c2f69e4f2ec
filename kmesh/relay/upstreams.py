"""Upstream connections that programs use: each is free in a pool's queue, or bound to a client.

Their bytes are the programs', so the relay never asks for EPOLLIN of them, which would wake it for every answer; it
asks for their end alone, in an epoll of their own that hangs in the event loop as one descriptor.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kmesh.relay.adoption import AdoptedSocket
from kmesh.relay.channel import reset_at_close
from kmesh.relay.journal import Identity, Journal, Kind, Slot, cookie_of

__all__ = ["Upstream", "Upstreams"]

_AT_ONCE = 256


@dataclass(eq=False, slots=True)
class Upstream:
    sock: socket.socket
    cookie: int
    netns: int
    cluster: int
    backend: int
    """Id of its endpoint."""
    slot: Slot
    client: int = 0
    """Cookie of whom it is bound to; 0: it is free."""
    is_leaving: bool = False
    """Its endpoint is the cluster's no more."""


class Upstreams:
    """All of them, by cookie. `ended` is called once for each whose server closed it."""

    def __init__(self, journal: Journal, ended: Callable[[Upstream], None]) -> None:
        self._journal, self._ended = journal, ended
        self._all: dict[int, Upstream] = {}
        self._by_fd: dict[int, Upstream] = {}
        self._of_client: dict[int, dict[int, Upstream]] = {}
        self._epoll = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._wake)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(list(self._all.values()))

    def get(self, cookie: int) -> Upstream | None:
        return self._all.get(cookie)

    def of_client(self, client: int) -> list[Upstream]:
        return list(self._of_client.get(client, {}).values())

    def add(self, sock: socket.socket, netns: int, cluster: int, backend: int) -> Upstream:
        slot, cookie = self._journal.slot(sock.fileno()), cookie_of(sock)
        slot.open(Identity(kind=Kind.POOLED, cookie=cookie, netns=netns, cluster=cluster, backend=backend))
        return self._add(Upstream(sock, cookie, netns, cluster, backend, slot))

    def adopt(self, found: AdoptedSocket) -> Upstream:
        """One of a predecessor's; free, until it is bound here."""
        was = found.was.identity
        return self._add(Upstream(found.sock, was.cookie, was.netns, was.cluster, was.backend, found.slot))

    def _add(self, upstream: Upstream) -> Upstream:
        self._all[upstream.cookie] = self._by_fd[upstream.sock.fileno()] = upstream
        self._epoll.register(upstream.sock, select.EPOLLRDHUP | select.EPOLLONESHOT)
        return upstream

    def watch_again(self, upstream: Upstream) -> None:
        """Have its end told once more, when it has ended."""
        self._epoll.modify(upstream.sock, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def bind(self, upstream: Upstream, client: int) -> None:
        self._take_from_client(upstream)
        upstream.client = client
        upstream.slot.become(Kind.BOUND, client=client)
        self._of_client.setdefault(client, {})[upstream.cookie] = upstream

    def unbind(self, upstream: Upstream) -> None:
        self._take_from_client(upstream)
        upstream.slot.become(Kind.POOLED, client=0)

    def _take_from_client(self, upstream: Upstream) -> None:
        held = self._of_client.get(upstream.client)
        if held:
            held.pop(upstream.cookie, None)
            if not held:
                del self._of_client[upstream.client]
        upstream.client = 0

    def remove(self, upstream: Upstream) -> socket.socket:
        """Its socket, open, and no more of these; its slot is as it was."""
        self._take_from_client(upstream)
        del self._all[upstream.cookie]
        del self._by_fd[upstream.sock.fileno()]
        self._epoll.unregister(upstream.sock)
        return upstream.sock

    def close_one(self, upstream: Upstream, *, reset: bool = False) -> None:
        sock = self.remove(upstream)
        if reset:
            reset_at_close(sock)
        upstream.slot.close()
        sock.close()

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        for upstream in self:
            self.close_one(upstream)
        self._epoll.close()

    def _wake(self) -> None:
        ready = [self._by_fd.get(fd) for fd, _ in self._epoll.poll(0, _AT_ONCE)]
        for upstream in ready:  # looked up before the first of them can reuse a descriptor
            if upstream and upstream.cookie in self._all:
                self._ended(upstream)
