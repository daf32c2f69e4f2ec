"""What a predecessor was doing, gone on with: from adopted sockets to connections in their parts.

    a slot says         and the maps say                    becomes
    POOLED, BOUND       bound to a client                   bound to it
                        bound to one that is gone           closed: a predecessor did not get to it
                        not bound                           free in its pool, whose queue has it still
                        not bound, and dead                 closed, likewise
    CLIENT              -                                   a client that serves itself
    RELAYED             the client's exchange is with it    the exchange, from where the bytes stand
                        an answer of the kernel's was       the answer, likewise
                        left to the relay on it
                        neither                             closed: it was between two exchanges

Events that nobody took wait in their buffer. One that was taken and came to nothing leaves its mark in the maps; so
these are asked, here and not the journal, whose a connection is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kmesh.records.constants import AnswerState, BodyPhase, StreamEvent
from kmesh.relay.adoption import Adopted, AdoptedSocket, measure_step
from kmesh.relay.channel import Channel, Readiness, reset_at_close
from kmesh.relay.client import Client
from kmesh.relay.counters import count_taken, count_written
from kmesh.relay.exchange import Asked, Progress
from kmesh.relay.framing import Framer
from kmesh.relay.framing_rest import continue_framer
from kmesh.relay.journal import Step
from kmesh.relay.pools import Pools
from kmesh.relay.recovery import find_left, join_ways
from kmesh.relay.stream_tables import StreamTables, UpstreamState
from kmesh.relay.tasks import Tasks
from kmesh.relay.upstreams import Upstream, Upstreams

__all__ = ["Heir", "find_rest"]

_log = logging.getLogger(__name__)

AddClient = Callable[[Channel, AdoptedSocket], Client]
RelayAnswer = Callable[[Client, Channel, int, UpstreamState | None, Framer | None, int], None]
"""(client, upstream, its cookie, what programs know of it, the framer of the rest, bytes before that)."""


def find_rest(state: UpstreamState) -> Framer | None:
    """Of an answer that the kernel left behind its beginning; None: from its first byte."""
    return continue_framer(BodyPhase(state.phase), state.remaining) if state.told == StreamEvent.ANSWER_REST else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heir:
    """The parts that take what was left."""

    tables: StreamTables
    upstreams: Upstreams
    pools: Pools
    tasks: Tasks
    readiness: Readiness
    add_client: AddClient
    relay_answer: RelayAnswer

    def take(self, adopted: Adopted) -> None:
        """Namespaces are open, and no event was heard yet."""
        for found in (*adopted.pooled, *adopted.bound):
            self._take_upstream(found)
        self._close_orphans({found.was.identity.client for found in adopted.clients})
        clients = {found.was.identity.cookie: found for found in adopted.clients}
        by_peer = {found.was.identity.client: found for found in adopted.clients}
        served = {cookie: self.add_client(self._channel(found), found) for cookie, found in clients.items()}
        waiting = dict(served)
        for found in adopted.relayed:
            is_mapped = self.tables.has_upstream(found.was.identity.cookie)
            other = by_peer.get(found.was.identity.client) if is_mapped else clients.get(found.was.direction.sink)
            if other is None:
                _reset(found)
                continue
            client = served[other.was.identity.cookie]
            upstream = self._channel(found, is_opener=True, is_mapped=is_mapped)
            try:
                if is_mapped:
                    self._go_on_with_answer(client, upstream, other, found)
                elif self._go_on(client, upstream, other, found):
                    waiting.pop(other.was.identity.cookie, None)
            except OSError as error:
                _log.info("exchange_lost", extra={"why": str(error)})
                waiting.pop(other.was.identity.cookie, None)
                client.reset()
                upstream.reset()
        for client in waiting.values():
            is_new = not (client.channel.taken or client.channel.given)
            self.tasks.start(client.serve(is_new=is_new))

    def _take_upstream(self, found: AdoptedSocket) -> None:
        upstream, state = self.upstreams.adopt(found), self.tables.read_upstream(found.was.identity.cookie)
        client = found.was.identity.client or (state.client if state else 0)
        if client and self._is_bound(upstream, client, state):
            self.pools.adopt_bound(upstream, client)
        elif (state and state.state == AnswerState.DEAD) or not self.pools.adopt(upstream):
            self.upstreams.close_one(upstream)
            self.tables.delete_upstream(upstream.cookie)

    def _is_bound(self, upstream: Upstream, client: int, state: UpstreamState | None) -> bool:
        if state and state.client == client:
            return True
        return self.tables.read_bound(client, upstream.cluster) == upstream.cookie

    def _close_orphans(self, known: Collection[int]) -> None:
        """Nobody will tell that their clients have ended. One that is not `known` and has a stream is to be accepted.

        The stream is asked for first: behind its end programs return nothing, and what they returned is told.
        """
        for upstream in self.upstreams:
            client = upstream.client
            if not client or client in known or self.tables.read_stream(client):
                continue
            if self._is_bound(upstream, client, self.tables.read_upstream(upstream.cookie)):
                self.pools.drop(upstream, is_last=True)

    def _go_on(self, client: Client, upstream: Channel, near: AdoptedSocket, far: AdoptedSocket) -> bool:
        """With an exchange of the relay's; False where its request had not begun. Raises: OSError."""
        progress = None
        try:
            progress = self._find_progress(client, upstream, near, far)
        finally:
            _close_pipes(near, far, progress)
        if progress is None:
            upstream.reset()
            return False
        self.tasks.start(client.resume(upstream, Asked(near.was.direction.phase), progress))
        return True

    def _find_progress(
        self, client: Client, upstream: Channel, near: AdoptedSocket, far: AdoptedSocket
    ) -> Progress | None:
        """Nothing lies in the sources that the sinks have, then. Raises: OSError."""
        request = find_left(
            near.was.direction, measure_step(near.sock, far.sock, near.was.direction, sink_is_upstream=True)
        )
        answer = find_left(
            far.was.direction, measure_step(far.sock, near.sock, far.was.direction, sink_is_upstream=False)
        )
        if request is None or answer is None:
            raise OSError("a head was sent in part")
        client.channel.take(request.dropped)
        upstream.take(answer.dropped)
        return join_ways(request, answer, near.pipe, far.pipe)

    def _go_on_with_answer(self, client: Client, upstream: Channel, near: AdoptedSocket, far: AdoptedSocket) -> None:
        """Of an exchange that the kernel began. Raises: OSError.

        What was taken from a socket of a sockmap is not counted by the kernel: the journal's word is all there is.
        """
        was, cookie = far.was.direction, far.was.identity.cookie
        state = self.tables.read_upstream(cookie)
        left = find_left(was, Step(sent=count_written(near.sock, is_opener=False) - was.written, took=0))
        if left is None:
            raise OSError("a head was sent in part")
        upstream.take(left.dropped)
        rest, ahead = (left.framer, left.ahead) if left.framer else (find_rest(state) if state else None, 0)
        self.relay_answer(client, upstream, cookie, state, rest, ahead)

    def _channel(self, found: AdoptedSocket, *, is_opener: bool = False, is_mapped: bool = False) -> Channel:
        """Its counts are the kernel's, since the connection was made. From now on it closes the socket."""
        channel = Channel(found.sock, self.readiness, is_mapped=is_mapped)
        channel.slot = found.slot
        try:
            channel.given = count_written(found.sock, is_opener=is_opener)
            channel.taken = 0 if is_mapped else count_taken(found.sock)
        except OSError:
            pass  # it was reset, which whoever uses it will notice
        return channel


def _reset(found: AdoptedSocket) -> None:
    found.slot.close()
    reset_at_close(found.sock)
    found.sock.close()


def _close_pipes(near: AdoptedSocket, far: AdoptedSocket, progress: Progress | None) -> None:
    """Those that the exchange does not go on with."""
    used = {pipe for pipe, _ in progress.pipes.values()} if progress else set()
    for pipe in (near.pipe, far.pipe):
        if pipe is not None and pipe not in used:
            os.close(pipe)
