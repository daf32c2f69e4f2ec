"""The relay, put together: which part hears which event, and what clients' connections find around them.

    accepted                a Client, which serves itself
    TAKEN, NEEDED, RETURNED pools
    ANSWER                  the client's, with the upstream connection as a channel, from the answer's first byte
    ANSWER_REST             likewise, from where the kernel left it
    CLIENT_CLOSED           what is bound to it is closed
    BREACH                  the upstream connection is reset, and its client if that was in the middle of an answer
    CLIENT_GONE             the upstream connection is reset
    TORN                    both ends are reset
    ENDED                   the client's
    NO_ACCEPTOR             the namespace of the process is looked for
    an upstream ended       a free one leaves its pool; a client's in-flight exchange is lost

Programs speak of clients that are established, and may not be accepted yet: then what waits is accepted first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import randrange
from typing import Any, Self

from kmesh.compiler.ir import Undetected
from kmesh.kernel.namespaces import namespace_cookie
from kmesh.model.address import SocketAddress
from kmesh.model.listener import Http10
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.records.constants import AnswerState, Handover, StreamEvent
from kmesh.relay.acceptors import Acceptors
from kmesh.relay.adoption import Adopted, AdoptedSocket
from kmesh.relay.channel import Channel, Readiness
from kmesh.relay.client import Client, UnfinishedHeads, Unreachable
from kmesh.relay.closing import Closing
from kmesh.relay.configuration import Configuration, read_configuration
from kmesh.relay.decide import Decision, Refused, Reply, ToCluster, choose_whole, decide
from kmesh.relay.dial import DialError, Dialler
from kmesh.relay.events import Event, Events
from kmesh.relay.exchange import Asked
from kmesh.relay.framing import Framer
from kmesh.relay.head import RequestHead
from kmesh.relay.inheritance import Heir, find_rest
from kmesh.relay.journal import ExchangeSlot, Identity, Journal, Kind, Rest, cookie_of
from kmesh.relay.namespaces import Namespace, Namespaces
from kmesh.relay.pools import Pools
from kmesh.relay.pump import Slot
from kmesh.relay.replies import NO_HEALTHY_UPSTREAM
from kmesh.relay.spares import Origin, Spares
from kmesh.relay.stream_tables import Peer, StreamTables, UpstreamState
from kmesh.relay.sweep import Sweeper
from kmesh.relay.tasks import Tasks
from kmesh.relay.untold import Untold
from kmesh.relay.upstreams import Upstream, Upstreams

__all__ = ["Relay"]

_log = logging.getLogger(__name__)
_TICK_S = 1.0
_SWEEP_S = 30.0
_SETTLE_S = 0.005
"""The end of an upstream connection is told before its last bytes have gone through the program."""


class Relay:
    """Async context manager; a Surroundings of its clients. `configuration` is a file that the bridge writes.

    It goes on with what was `adopted`, and writes into `journal` what its successor will need.
    """

    def __init__(
        self,
        maps_dir: Path,
        configuration: Path,
        cgroups: Sequence[Path],
        journal: Journal | None = None,
        adopted: Adopted | None = None,
    ) -> None:
        self._maps_dir, self._path, self._cgroups = maps_dir, configuration, cgroups
        self._journal, self._adopted = journal or Journal(), adopted or Adopted()
        self._exchanges: dict[Channel, ExchangeSlot] = {}
        """Where they are written down, by upstream connection."""
        self.unfinished = UnfinishedHeads()
        self.clients: dict[int, Client] = {}
        self._half_closed: set[int] = set()
        """Clients that send no more, and wait for an answer."""
        self._answering: Counter[int] = Counter()
        """Answers that are being relayed, by client."""
        self._asked: dict[int, SocketAddress] = {}
        """What each client's connect() named."""
        self._clients_in: Counter[int] = Counter()
        """By namespace."""
        self._kernel_exchanges = 0
        """Of clients that are gone."""
        self.relayed: Counter[str] = Counter()
        """Exchanges that the relay carried or answered, by why they were its."""
        self._started_at = time.time()

    async def __aenter__(self) -> Self:
        self._configure(read_configuration(self._path))
        self._stack = contextlib.AsyncExitStack()
        async with contextlib.AsyncExitStack() as stack:
            self._tasks = Tasks()
            self._tables = StreamTables(self._maps_dir)
            stack.callback(self._tables.close)
            self._dialler = Dialler(self._maps_dir)
            stack.callback(self._dialler.close)
            self._readiness = Readiness()
            stack.callback(self._readiness.close)
            self._upstreams = Upstreams(self._journal, self._note_end)
            stack.callback(self._upstreams.close)
            self._events = Events(self._tables.events, self._hear)
            stack.callback(self._events.close)
            self._acceptors = Acceptors(self._tables, self._journal, self._accept, self._adopted)
            self._namespaces = Namespaces(
                self._cgroups, self._acceptors.open, self._close_namespace, lambda netns: self._clients_in[netns] > 0
            )
            self.pools = Pools(
                self._tables,
                self._dialler,
                self._namespaces.known,
                self._upstreams,
                self._tasks,
                timeout_of=self._timeout_of,
                dropped=self._close_if_over,
            )
            stack.callback(self.pools.close)
            self._closing = Closing(self._tasks, self._tables.delivery, self._fence)
            self._spares = Spares()
            stack.callback(self._spares.close)
            stack.callback(self._reset_clients)
            stack.push_async_callback(self._tasks.close)
            await stack.enter_async_context(self._namespaces)
            self._inherit()
            self._events.start()
            self._untold = Untold(self._tables, self._events, self._upstreams, lambda: self.clients)
            await self._untold.look()
            self._sweeper = Sweeper(self._tables, lambda: self.pools.stale, lambda: self._namespaces.known)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Until something fails that must not."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._namespaces.run())
            group.create_task(self._tick())
            group.create_task(self._sweep())

    async def reload(self) -> None:
        """Read the configuration again. Raises ConfigError, and the old one stays."""
        self._configure(await asyncio.to_thread(read_configuration, self._path))
        self.pools.tick()

    def prefill(self, clusters: Sequence[int], count: int) -> None:
        """Have `count` connections ready in every namespace that is open, before there is any demand."""
        for netns in self._namespaces.known:
            for cluster in clusters:
                self.pools.note_needed(netns, cluster, count)

    def status(self) -> dict[str, object]:
        """Plain values; the names of kmesh.bridge.relay_status."""
        return {
            "pid": os.getpid(),
            "started_at": self._started_at,
            "clients": len(self.clients),
            "kernel_exchanges": self.kernel_exchanges,
            "relayed": dict(self.relayed),
            "dial_failures": dict(self._dialler.failures),
            "events": dict(self._events.counts),
            "untold": self._untold.count,
            "accepts": dict(self._acceptors.counts),
            "swept": self._sweeper.swept,
            "pools": list(self._describe_pools()),
            "namespaces": [self._describe_namespace(netns) for netns in self._namespaces.known],
        }

    @property
    def kernel_exchanges(self) -> int:
        """That the kernel carried to their ends."""
        live = (self._tables.read_stream(client) for client in list(self.clients))
        return self._kernel_exchanges + sum(stream.exchanges for stream in live if stream)

    # Surroundings: what clients ask for

    def decide(self, head: RequestHead, routing: int, port: int) -> Decision:
        decision = decide(self._configuration, routing, head, port, randrange)
        match decision:
            case Reply():
                self.relayed[f"answered {decision.status}"] += 1
            case Refused():
                self.relayed[f"not supported: {decision.feature}"] += 1
        return decision

    def find_http10(self, routing: int) -> Http10 | None:
        unit = self._configuration.routings.get(routing)
        return unit.http10 if unit else None

    def find_undetected(self, routing: int) -> Undetected | None:
        unit = self._configuration.routings.get(routing)
        return unit.undetected if unit else None

    def choose(self, clusters: tuple[WeightedCluster, ...]) -> ToCluster | None:
        return choose_whole(self._configuration, clusters, randrange)

    def claim(self, client: int) -> bool:
        return self._tables.claim_stream(client)

    async def dial(self, client: Client, to: ToCluster) -> Channel:
        """One to the address that the client asked for belongs to no pool, and is nobody else's."""
        netns, asked = client.netns, self._asked.get(client.cookie)
        channel = self._spares.take(netns, to.cluster_id)
        if channel:
            return channel
        namespace = self._namespaces.known.get(netns)
        if namespace is None:
            raise Unreachable(NO_HEALTHY_UPSTREAM)
        for left in range(to.connect_retries, -1, -1):
            try:
                dialled = await self._dialler.dial(
                    namespace, to.cluster_id, timeout_s=to.connect_timeout_s, asked=asked
                )
            except DialError as error:
                if not left or error.is_final:
                    raise Unreachable(error.body, error.status) from None
                continue
            channel = Channel(dialled.sock, self._readiness)
            self._write_down(channel, Kind.RELAYED, netns=netns, cluster=to.cluster_id, backend=dialled.backend)
            if dialled.backend:
                self._spares.note(channel, Origin(netns, to.cluster_id, dialled.backend))
            return channel
        raise AssertionError("the last try returns or raises")

    def begin_exchange(
        self, client: Client, upstream: Channel, asked: Asked, rests: Mapping[int, Rest] | None = None
    ) -> Slot | None:
        if not upstream.is_mapped:  # else its answer is counted already
            stream = self._tables.read_stream(client.cookie)
            self.relayed[_name_handover(stream.handover) if stream else "whole connection"] += 1
        if client.channel.slot is None or upstream.slot is None:
            return None  # one of them is closed already
        slot = ExchangeSlot(client.channel.slot, upstream.slot, phase=int(asked))
        slot.begin(client.channel.sock, upstream.sock, (upstream.given, client.channel.given), rests)
        self._exchanges[upstream] = slot
        return slot

    def release(self, upstream: Channel, clean: bool) -> None:
        slot = self._exchanges.pop(upstream, None)
        if slot:
            slot.end()
        origin = self._spares.forget(upstream)
        if not clean or origin is None or upstream.is_lost:
            upstream.reset()  # one that is lost holds a descriptor still; one that is closed minds no more
            return
        if self.pools.wants(origin.netns, origin.cluster):
            sock = upstream.release()
            self.pools.offer(sock, origin.netns, origin.cluster, origin.backend)
        else:
            self._spares.keep(upstream, origin)

    def in_flight(self, client: int) -> int:
        stream = self._tables.read_stream(client)
        return stream.upstream if stream else 0

    def grant(self, client: int, taken: int, given: int, ended: int) -> None:
        self._tables.grant(client, taken, given, ended)

    def client_ended(self, client: Client) -> bool:
        self._events.take()  # what its last request bound
        flying = self.in_flight(client.cookie)
        bound = self._upstreams.get(flying)
        if bound and not bound.client:  # which could not be told
            self.pools.note_taken(client.cookie, flying)
        waits = self._answering[client.cookie] > 0
        for upstream in self._upstreams.of_client(client.cookie):
            if upstream.cookie == flying:
                waits = True
                with contextlib.suppress(OSError):
                    upstream.sock.shutdown(socket.SHUT_WR)
        if client.is_gone and not waits:
            client.reset()  # see Closing
            return True
        if waits or self._has_exchanges(client.cookie):
            self._half_closed.add(client.cookie)
            if not waits:
                self._close_if_over(client.cookie)
            return True
        return False

    def _has_exchanges(self, cookie: int) -> bool:
        """Programs gave it an answer, which may be on its way."""
        stream = self._tables.read_stream(cookie)
        return stream is not None and stream.exchanges > 0

    def forget(self, client: Client) -> None:
        if self.clients.pop(client.cookie, None) is None:
            return
        del self._asked[client.cookie]
        self._events.take()
        self._half_closed.discard(client.cookie)
        self._clients_in[client.netns] -= 1
        stream = self._tables.take_stream(client.cookie)
        self._kernel_exchanges += stream.exchanges if stream else 0
        for upstream in self._upstreams.of_client(client.cookie):
            self.pools.drop(upstream, is_last=True)

    # Accepting

    def _accept(self, sock: socket.socket, namespace: Namespace, peer: Peer) -> None:
        channel, asked = Channel(sock, self._readiness), (peer.asked.addr16, peer.asked.port)
        self._write_down(
            channel, Kind.CLIENT, netns=namespace.cookie, client=peer.client, routing=peer.routing, address=asked
        )
        client = self._add_client(channel, peer, namespace.cookie)
        self._tasks.start(client.serve())

    def _add_client(self, channel: Channel, peer: Peer, netns: int, ended: int = 0) -> Client:
        cookie, port = peer.client, peer.asked.port
        client = Client(
            channel, cookie=cookie, netns=netns, routing=peer.routing, port=port, surroundings=self, ended=ended
        )
        self.clients[cookie] = client
        self._asked[cookie] = peer.asked
        self._clients_in[netns] += 1
        return client

    def _write_down(self, channel: Channel, kind: Kind, **who: Any) -> None:
        """Before anything is done with it."""
        channel.slot = self._journal.slot(channel.sock.fileno())
        channel.slot.open(Identity(kind=kind, cookie=cookie_of(channel.sock), **who))

    def _find_client(self, cookie: int, netns: int) -> Client | None:
        if cookie not in self.clients:
            self._acceptors.accept_now(netns)
        return self.clients.get(cookie)

    # Events

    def _hear(self, event: Event) -> None:
        match event.kind:
            case StreamEvent.TAKEN:
                self.pools.note_taken(event.client, event.upstream)
            case StreamEvent.NEEDED:
                self.pools.note_needed(event.netns, event.cluster)
            case StreamEvent.RETURNED:
                self.pools.note_returned(event.upstream)
            case StreamEvent.ANSWER | StreamEvent.ANSWER_REST:
                self._hand_answer(event)
            case StreamEvent.CLIENT_CLOSED:
                self._note_closed(event)
            case StreamEvent.NO_ACCEPTOR:
                self._namespaces.note_process(event.detail)
            case StreamEvent.BREACH | StreamEvent.CLIENT_GONE:
                self._cut(event)
            case StreamEvent.TORN:
                self._tear(event)
            case StreamEvent.ENDED:
                client = self.clients.get(event.client)
                if client:
                    client.note_ended()
                    self._close_if_over(event.client)

    def _note_closed(self, event: Event) -> None:
        """A client's socket is gone; what is bound to it is of no use any more."""
        self._kernel_exchanges += event.detail
        upstream = self._upstreams.get(event.upstream)
        if upstream:
            self.pools.drop(upstream)
        client = self.clients.get(event.client)
        if client:
            client.is_gone = True
        else:  # its own end closes the others
            for other in self._upstreams.of_client(event.client):
                self.pools.drop(other, is_last=True)
        self._close_if_over(event.client)

    def _hand_answer(self, event: Event) -> None:
        upstream = self._upstreams.get(event.upstream)
        if upstream is None:
            return
        client = self._find_client(event.client, event.netns)
        if client is None:
            self.pools.drop(upstream, reset=True)
            return
        self.relayed[f"answer: {_name_handover(event.detail)}"] += 1
        state = self._tables.read_upstream(upstream.cookie)
        channel = Channel(self.pools.take_over(upstream), self._readiness, is_mapped=True)
        channel.slot = upstream.slot
        channel.slot.become(Kind.RELAYED, client=client.cookie)
        rest = find_rest(state) if state and event.kind is StreamEvent.ANSWER_REST else None
        self._start_answer(client, channel, upstream.cookie, state, rest, 0)

    def _start_answer(
        self,
        client: Client,
        channel: Channel,
        cookie: int,
        state: UpstreamState | None,
        rest: Framer | None,
        ahead: int,
    ) -> None:
        self._answering[client.cookie] += 1
        self._tasks.start(self._relay_answer(client, channel, cookie, state, rest, ahead))

    async def _relay_answer(
        self,
        client: Client,
        channel: Channel,
        cookie: int,
        state: UpstreamState | None,
        rest: Framer | None,
        ahead: int,
    ) -> None:
        is_head, closes = (bool(state.is_head), bool(state.is_closing)) if state else (False, False)
        try:
            await client.relay_answer(channel, cookie, is_head=is_head, closes=closes, rest=rest, ahead=ahead)
        finally:
            self._tables.delete_upstream(cookie)
            self._answering[client.cookie] -= 1
            if not self._answering[client.cookie]:
                del self._answering[client.cookie]
        self._close_if_over(client.cookie)

    def _cut(self, event: Event) -> None:
        """What an upstream connection says belongs to no one, or to a client that is gone."""
        upstream = self._upstreams.get(event.upstream)
        client = self._find_client(event.client, event.netns) if event.client else None
        is_flying = client is not None and self.in_flight(client.cookie) == event.upstream
        if upstream:
            self.pools.drop(upstream, reset=True)
        if client and is_flying:
            client.reset()

    def _tear(self, event: Event) -> None:
        """Bytes are lost to the client, who must not take what comes behind them for them."""
        upstream = self._upstreams.get(event.upstream)
        client = self._find_client(event.client, event.netns)
        _log.warning("stream_torn", extra={"client": event.client, "upstream": event.upstream})
        if upstream:
            self.pools.drop(upstream, reset=True)
        if client:
            client.reset()

    def _note_end(self, upstream: Upstream) -> None:
        """Its server closed it."""
        self._events.take()
        if self._upstreams.get(upstream.cookie) is not upstream:
            return
        if upstream.client:
            self._tasks.start(self._end_bound(upstream))
        else:
            self.pools.drop(upstream)

    async def _end_bound(self, upstream: Upstream) -> None:
        await asyncio.sleep(_SETTLE_S)
        self._events.take()
        if self._upstreams.get(upstream.cookie) is not upstream:
            return  # its answer is relayed
        state = self._tables.read_upstream(upstream.cookie)
        if state and state.state == AnswerState.RELAYED:
            return  # which will be told
        cookie, client = upstream.client, self._find_client(upstream.client, upstream.netns)
        self.pools.drop(upstream)
        if client and state and state.is_in_flight:
            client.note_lost(upstream.cookie, has_begun=state.state != AnswerState.HEAD)
        self._close_if_over(cookie)

    def _close_if_over(self, cookie: int) -> None:
        """A client that sends no more, and that nothing is on the way to."""
        client = self.clients.get(cookie)
        if client and cookie in self._half_closed and not self._answering[cookie]:
            flying = self.in_flight(cookie)
            if not any(upstream.cookie == flying for upstream in self._upstreams.of_client(cookie)):
                self._half_closed.discard(cookie)
                self._closing.note(client)

    async def _fence(self) -> None:
        """Where there is no pool no program has begun an exchange for a minute."""
        pool = next(iter(self.pools.pools.values()), None)
        if pool:
            await asyncio.to_thread(self._tables.fence, *pool.key, pool.queue)

    # Keeping in order

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._events.take()
            await self._untold.look()
            self.pools.tick()
            self._spares.tick(lambda origin: self._dialler.has_backend(origin.cluster, origin.backend))
            for cookie in list(self._half_closed):
                self._close_if_over(cookie)

    async def _sweep(self) -> None:
        while True:
            await self._sweeper.sweep()
            await asyncio.sleep(_SWEEP_S)

    def _configure(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._timeouts = {
            options.id: None if options.is_http2_only else options.connect_timeout_s
            for options in configuration.clusters.values()
        }

    def _timeout_of(self, cluster: int) -> float | None:
        return self._timeouts.get(cluster)

    def _inherit(self) -> None:
        """Go on with what a predecessor left; what the maps have of its other sockets goes."""
        self._acceptors.close_unopened()
        heir = Heir(
            tables=self._tables,
            upstreams=self._upstreams,
            pools=self.pools,
            tasks=self._tasks,
            readiness=self._readiness,
            add_client=self._adopt_client,
            relay_answer=self._start_answer,
        )
        heir.take(self._adopted)
        for sock in self._adopted.accepted:
            self._adopt_accepted(sock)
        for netns in self._tables.acceptors():
            if netns not in self._namespaces.known:
                self._tables.delete_acceptor(netns)
        for key in self._tables.pools():
            if key not in self.pools.pools:
                self._tables.delete_pool(*key)

    def _adopt_client(self, channel: Channel, found: AdoptedSocket) -> Client:
        was = found.was.identity
        peer = Peer(was.client, was.routing, SocketAddress(*was.address))
        return self._add_client(channel, peer, was.netns, self._tables.read_ended(was.client))

    def _adopt_accepted(self, sock: socket.socket) -> None:
        """It was accepted, and the journal did not have it yet."""
        namespace = self._namespaces.known.get(namespace_cookie(sock))
        try:
            address = sock.getpeername()
        except OSError:
            namespace = None
        if namespace:
            self._acceptors.take(sock, address, namespace)
        else:
            sock.close()

    def _close_namespace(self, namespace: Namespace) -> None:
        self._acceptors.close(namespace.cookie)
        self.pools.close_namespace(namespace.cookie)
        self._spares.close_namespace(namespace.cookie)

    def _reset_clients(self) -> None:
        for client in list(self.clients.values()):
            client.reset()

    def _describe_pools(self) -> Iterator[dict[str, int]]:
        bound = Counter((upstream.netns, upstream.cluster) for upstream in self._upstreams if upstream.client)
        for key, pool in self.pools.pools.items():
            netns, cluster = key
            yield {"cluster": cluster, "namespace": netns, "idle": len(pool.free), "bound": bound[key]}

    def _describe_namespace(self, netns: int) -> dict[str, object]:
        port4, port6 = self._acceptors.ports(netns)
        acceptors = [f"{ip}:{port}" for ip, port in (("127.0.0.1", port4), ("[::1]", port6)) if port]
        return {"cookie": netns, "acceptors": acceptors}


def _name_handover(number: int) -> str:
    try:
        return Handover(number).name.lower().replace("_", " ")
    except ValueError:
        return f"reason {number}"
