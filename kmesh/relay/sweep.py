"""Elements of the maps of streams whose sockets or namespaces are gone: they are deleted.

Some are what a relay that died could not delete any more; some are what a program asked for by an element that nobody
can fill, since the namespace ended before it was found.

Who is a member of a sockhash lives: sockets leave it when they are closed, whatever becomes of processes. An element
is written a moment before its socket is a member, or after, so each is looked at twice. So is an acceptor of a
namespace that is not known, which may just be looked for; where it lives after all, it asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import TypeVar

from kmesh.relay.stream_tables import StreamTables

__all__ = ["Sweeper"]

_T = TypeVar("_T")
_AT_ONCE = 256
"""Elements between two turns of the loop."""


class Sweeper:
    """`kept_upstreams` have no socket, and their elements are needed nevertheless. `namespaces` are the cookies of
    those that are known. Methods raise OSError."""

    def __init__(
        self,
        tables: StreamTables,
        kept_upstreams: Callable[[], Collection[int]],
        namespaces: Callable[[], Collection[int]],
    ) -> None:
        self._tables, self._kept_upstreams, self._namespaces = tables, kept_upstreams, namespaces
        self._suspects: set[tuple[str, object]] = set()
        self.swept = 0
        """Elements that went."""

    async def sweep(self) -> None:
        """Delete what was without a socket, or a namespace, the last time, and still is."""
        found = set()
        kept = self._kept_upstreams()
        async for suspect, delete in self._find(kept):
            if suspect in self._suspects:
                delete()
                self.swept += 1
            else:
                found.add(suspect)
        self._suspects = found

    async def _find(self, kept: Collection[int]) -> AsyncIterator[tuple[tuple[str, object], Callable[[], object]]]:
        tables = self._tables
        async for client in _in_turns({*tables.streams(), *tables.grants()}):
            if not tables.has_client(client):
                yield ("stream", client), lambda: tables.delete_client(client)  # noqa: B023 -- called at once
        async for key, client in _in_turns(list(tables.peers())):
            if not tables.has_client(client):
                yield ("peer", key), lambda: tables.delete_peer(key)  # noqa: B023
        async for client, cluster, upstream in _in_turns(list(tables.bound())):
            if not (tables.has_client(client) and tables.has_upstream(upstream)):
                place = ("bound", (client, cluster, upstream))
                yield place, lambda: tables.unbind(client, cluster, upstream)  # noqa: B023
        async for upstream in _in_turns(tables.upstreams()):
            if upstream not in kept and not tables.has_upstream(upstream):
                yield ("upstream", upstream), lambda: tables.delete_upstream(upstream)  # noqa: B023
        async for netns in _in_turns(tables.acceptors()):
            if netns not in self._namespaces():
                yield ("acceptor", netns), lambda: tables.delete_acceptor(netns)  # noqa: B023


async def _in_turns(items: Iterable[_T]) -> AsyncIterator[_T]:
    for number, item in enumerate(items):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        yield item
