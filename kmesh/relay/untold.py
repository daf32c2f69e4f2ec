"""What programs could not tell, since the ring buffer was full: it is read off the maps, and heard late.

Programs count such events (km_untold), and write into the maps what an event is about before they tell it. So when
the count has grown, all that is missing is there to be found:

    an upstream connection   and the maps have                      is heard
    free                     an element with a client               TAKEN, and then what follows for a bound one
    free                     none, and it is unfit for a breach     BREACH
    bound                    an element that is RELAYED             ANSWER, ANSWER_REST, BREACH, CLIENT_GONE or TORN,
                                                                    as the element says
    bound                    no stream of its client                CLIENT_CLOSED
    (a client's)             a stream that is torn                  TORN

Some of these may have been told after all, or are about to be: hearing an event twice does no more than hearing it.

The other kinds need nobody. ENDED: a client that waits asks by itself. RETURNED, NO_ACCEPTOR: a program that cannot
tell them does not do it, or forgets that it asked. NEEDED: the next request asks again. How many exchanges the kernel
carried for a client, which CLIENT_CLOSED tells, is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from kmesh.records.constants import AnswerState, StreamEvent
from kmesh.relay.events import Event, Events
from kmesh.relay.stream_tables import StreamTables, UpstreamState
from kmesh.relay.upstreams import Upstream, Upstreams

__all__ = ["Untold"]

_log = logging.getLogger(__name__)
_AT_ONCE = 256
"""Connections between two turns of the loop."""
_LEFT = frozenset(
    (StreamEvent.ANSWER, StreamEvent.ANSWER_REST, StreamEvent.BREACH, StreamEvent.CLIENT_GONE, StreamEvent.TORN)
)
"""With which programs leave an upstream connection to the relay."""


class Untold:
    """`clients` are the cookies of those that were accepted. Methods raise OSError."""

    def __init__(
        self, tables: StreamTables, events: Events, upstreams: Upstreams, clients: Callable[[], Collection[int]]
    ) -> None:
        self._tables, self._events, self._upstreams, self._clients = tables, events, upstreams, clients
        self.count = 0
        """Events that found no room, since the maps were made, as far as they were looked for."""
        self.heard = 0
        """Found in the maps since this process began: some of them may have been told."""

    async def look(self) -> None:
        """When there are more than the last time. The first time those count that a predecessor may have seen to."""
        count = self._tables.count_untold()
        if count == self.count:
            return
        before = self.heard
        for number, upstream in enumerate(self._upstreams):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
                self._events.take()
            self._look_at(upstream)
        for client in list(self._clients()):
            stream = self._tables.read_stream(client)
            if stream and stream.is_torn:
                self._hear(StreamEvent.TORN, client)
        _log.warning("events_lost", extra={"count": count - self.count, "found": self.heard - before})
        self.count = count

    def _look_at(self, upstream: Upstream) -> None:
        if self._upstreams.get(upstream.cookie) is not upstream:
            return
        state = self._read(upstream)
        if state is None or not state.client:
            if not upstream.client and self._tables.is_breached(upstream.cookie):
                self._hear(StreamEvent.BREACH, 0, upstream)
            return
        if upstream.client != state.client:
            self._hear(StreamEvent.TAKEN, state.client, upstream)
        is_relayed = state.state == AnswerState.RELAYED
        if is_relayed and state.told in _LEFT:
            self._hear(StreamEvent(state.told), state.client, upstream)
        if self._tables.read_stream(state.client) is None:
            self._hear(StreamEvent.CLIENT_CLOSED, state.client, upstream)

    def _read(self, upstream: Upstream) -> UpstreamState | None:
        """Its element. One with another client than is known here may come behind a RETURNED that waits to be heard;
        where it is still there when all was heard, the connection was taken, and that was not told."""
        state = self._tables.read_upstream(upstream.cookie)
        while state and state.client not in (0, upstream.client):
            client = state.client
            self._events.take()
            state = self._tables.read_upstream(upstream.cookie)
            if state and state.client == client:
                break
        return state

    def _hear(self, kind: StreamEvent, client: int, upstream: Upstream | None = None) -> None:
        self.heard += 1
        where = (upstream.cookie, upstream.cluster, upstream.netns) if upstream else (0, 0, 0)
        self._events.hear(Event(kind, 0, client, *where))
