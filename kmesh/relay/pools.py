"""Free upstream connections, offered to programs in one queue for each (namespace, cluster).

    told or seen                     done
    TAKEN, NEEDED                    demand noted; as many are dialled as its target says (kmesh.relay.demand)
    RETURNED                         free again: a program put it back into the queue
    a free one ended                 marked dead, so that programs pass over it; closed; taken out of the queue
    ... and is taken at that moment  not marked, but bound: it leaves as those do
    no demand for a minute           all free ones are closed, and the queue goes
    dialling fails                   not again before a pause that doubles
    the cluster's endpoints change   those of others leave: free ones at once, bound ones between two exchanges

What is in a queue can only leave it by being popped, by a program or here. A queue is cleaned by taking each out once
and putting back what lives, so that it lacks one at most at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kmesh.compiler.interpreter.broken import Broken
from kmesh.kernel import bpf
from kmesh.records.constants import LIMITS, AnswerState
from kmesh.records.layout import ID
from kmesh.relay.demand import Demand
from kmesh.relay.dial import DialError, Dialled, Dialler
from kmesh.relay.namespaces import Namespace
from kmesh.relay.stream_tables import StreamTables
from kmesh.relay.tasks import Tasks
from kmesh.relay.upstreams import Upstream, Upstreams

__all__ = ["Pool", "PoolKey", "Pools"]

_log = logging.getLogger(__name__)
_AT_ONCE = 16
"""Connections that one pool makes at the same time."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_DRAIN_POLL_S = 0.05

PoolKey = tuple[int, int]
"""(cookie of the namespace, id of the cluster)."""


@dataclass(eq=False, slots=True)
class Pool:
    key: PoolKey
    queue: int
    """Descriptor."""
    target: tuple[int, int] | None
    """Where the cluster's cell led when `backends` was read."""
    backends: frozenset[int] | None
    """Ids of its endpoints; None: it has others too, and requests for it are the relay's."""
    demand: Demand = field(default_factory=Demand)
    free: dict[int, Upstream] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)
    """Closed, and still in the queue."""
    dialling: int = 0
    pause_s: float = 0.0
    dials_at: float = 0.0
    """Not before; of the loop's clock."""
    is_cleaning: bool = False


class Pools:
    """`pools` is for looking at. `tick` is to be called every second or so."""

    def __init__(
        self,
        tables: StreamTables,
        dialler: Dialler,
        namespaces: Mapping[int, Namespace],
        upstreams: Upstreams,
        tasks: Tasks,
        *,
        timeout_of: Callable[[int], float | None],
        dropped: Callable[[int], None],
    ) -> None:
        """`timeout_of` a cluster: of connecting, in seconds; None: its connections are not for programs. `dropped` is
        called with the cookie of a client that lost an upstream connection between two exchanges."""
        self._tables, self._dialler, self._namespaces = tables, dialler, namespaces
        self._upstreams, self._tasks = upstreams, tasks
        self._timeout_of, self._dropped = timeout_of, dropped
        self._loop = asyncio.get_running_loop()
        self.pools: dict[PoolKey, Pool] = {}

    # What programs tell

    def note_taken(self, client: int, cookie: int) -> None:
        upstream = self._upstreams.get(cookie)
        if upstream is None:
            return
        pool = self._open(upstream.netns, upstream.cluster)
        if pool:
            pool.free.pop(cookie, None)
            pool.demand.note(self._loop.time())
            self._fill(pool)
        self._upstreams.bind(upstream, client)
        if upstream.is_leaving:
            self._tasks.start(self._drain(upstream))

    def note_needed(self, netns: int, cluster: int, count: int = 1) -> None:
        """A request went to the relay for want of one. `count` more are asked for."""
        pool = self._open(netns, cluster)
        if pool:
            pool.demand.note(self._loop.time(), count)
            self._fill(pool)

    def note_returned(self, cookie: int) -> None:
        upstream = self._upstreams.get(cookie)
        pool = self.pools.get((upstream.netns, upstream.cluster)) if upstream else None
        if upstream is None or pool is None:
            return
        self._upstreams.unbind(upstream)
        pool.free[cookie] = upstream
        pool.demand.note(self._loop.time(), -1)
        if upstream.is_leaving:
            self._retire(pool, upstream)

    # Offering, and taking back

    def adopt(self, upstream: Upstream) -> bool:
        """A free one of a predecessor's, which is in its queue still. False where there is no pool for it."""
        pool = self._open(upstream.netns, upstream.cluster)
        if pool is None or not self._belongs(pool, upstream.backend):
            return False
        pool.free[upstream.cookie] = upstream
        return True

    def adopt_bound(self, upstream: Upstream, client: int) -> None:
        """Likewise one that a client has; it is drained when its endpoint left while nobody looked."""
        pool = self._open(upstream.netns, upstream.cluster)
        self._upstreams.bind(upstream, client)
        if pool and not self._belongs(pool, upstream.backend):
            upstream.is_leaving = True
            self._tasks.start(self._drain(upstream))

    def wants(self, netns: int, cluster: int) -> bool:
        """Whether a connection that is not needed elsewhere would be of use."""
        pool = self.pools.get((netns, cluster))
        return pool is not None and self._lacks(pool) > 0

    def offer(self, sock: socket.socket, netns: int, cluster: int, backend: int) -> bool:
        """A connection that nothing was sent on, or that stands between two exchanges. False: it was closed."""
        pool = self.pools.get((netns, cluster))
        if pool is None or not self._belongs(pool, backend):
            sock.close()
            return False
        upstream = self._upstreams.add(sock, netns, cluster, backend)
        try:
            self._tables.add_upstream(upstream.cookie, sock)
            if _has_spoken(sock):
                raise OSError("it spoke before it was asked")
            bpf.push(pool.queue, ID.pack(upstream.cookie))
        except OSError as error:
            self._upstreams.close_one(upstream, reset=True)
            self._tables.delete_upstream(upstream.cookie)
            _log.debug("not_offered", extra={"why": str(error)})
            return False
        pool.free[upstream.cookie] = upstream
        return True

    def drop(self, upstream: Upstream, *, reset: bool = False, is_last: bool = False) -> None:
        """Close it, whatever it is doing. `is_last`: its client is no more."""
        pool = self.pools.get((upstream.netns, upstream.cluster))
        if upstream.client:
            self._tables.unbind(upstream.client, upstream.cluster, upstream.cookie, is_last=is_last)
            self._upstreams.close_one(upstream, reset=reset)
            self._tables.delete_upstream(upstream.cookie)
        elif pool:
            self._retire(pool, upstream, reset=reset)

    def take_over(self, upstream: Upstream) -> socket.socket:
        """The socket of a bound one, whose bytes are the relay's from now on. It is not offered again."""
        self._tables.unbind(upstream.client, upstream.cluster, upstream.cookie)
        return self._upstreams.remove(upstream)

    def close_namespace(self, netns: int) -> None:
        for pool in [pool for key, pool in self.pools.items() if key[0] == netns]:
            self._close_pool(pool)
        for upstream in self._upstreams:
            if upstream.netns == netns:
                self.drop(upstream)

    def close(self) -> None:
        for pool in list(self.pools.values()):
            self._close_pool(pool)

    @property
    def stale(self) -> set[int]:
        """Closed ones that are still in a queue: their elements of km_upstream are needed."""
        return {cookie for pool in self.pools.values() for cookie in pool.stale}

    # Size

    def tick(self) -> None:
        """Shrink, drain, and dial what is wanted."""
        for pool in list(self.pools.values()):
            self._follow_cluster(pool)
            surplus = -self._lacks(pool)
            if surplus > 0 and pool.demand.target(self._loop.time()) == 0:
                self._pop_some(pool, surplus)
                self._close_if_unused(pool)
            self._fill(pool)

    def _lacks(self, pool: Pool) -> int:
        return pool.demand.target(self._loop.time()) - len(pool.free) - pool.dialling

    def _fill(self, pool: Pool) -> None:
        if pool.backends is None or self._loop.time() < pool.dials_at:
            return
        for _ in range(min(self._lacks(pool), _AT_ONCE - pool.dialling)):
            pool.dialling += 1
            self._tasks.start(self._dial(pool))

    async def _dial(self, pool: Pool) -> None:
        """One after the other, while any are lacking."""
        netns, cluster = pool.key
        try:
            while self.pools.get(pool.key) is pool:
                namespace, timeout_s = self._namespaces.get(netns), self._timeout_of(cluster)
                if namespace is None or timeout_s is None or self._lacks(pool) < 0:  # this one is counted in it
                    return
                dialled = await self._dial_once(pool, namespace, timeout_s)
                if dialled is None:
                    return
                if not self.offer(dialled.sock, netns, cluster, dialled.backend):
                    self._pause(pool)
                    return
                pool.pause_s = 0.0
                if self._lacks(pool) < 0:
                    return
        finally:
            pool.dialling -= 1

    async def _dial_once(self, pool: Pool, namespace: Namespace, timeout_s: float) -> Dialled | None:
        try:
            return await self._dialler.dial(namespace, pool.key[1], timeout_s=timeout_s)
        except DialError as error:
            self._pause(pool)
            _log.debug("dial_failed", extra={"cluster": pool.key[1], "why": error.reason})
            return None

    def _pause(self, pool: Pool) -> None:
        pool.pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pool.pause_s))
        pool.dials_at = self._loop.time() + pool.pause_s

    def _pop_some(self, pool: Pool, count: int) -> None:
        """Out of the queue, to be closed."""
        for _ in range(count):
            raw = bpf.pop(pool.queue, ID.size)
            if raw is None:
                return
            self._forget_popped(pool, raw)

    def _forget_popped(self, pool: Pool, raw: bytes) -> bool:
        """False: it is in the queue again."""
        (cookie,) = ID.unpack(raw)
        if cookie not in pool.free and self._upstreams.get(cookie):
            self._put_back(pool, raw)  # a program put it back a moment ago, and RETURNED is to be heard yet
            return False
        upstream = pool.free.pop(cookie, None)
        pool.stale.discard(cookie)
        if upstream:
            self._upstreams.close_one(upstream)
        self._tables.delete_upstream(cookie)
        return True

    def _put_back(self, pool: Pool, raw: bytes) -> None:
        """Where programs filled the queue meanwhile it is one too many, and closed."""
        try:
            bpf.push(pool.queue, raw)
        except OSError:
            (cookie,) = ID.unpack(raw)
            pool.free.pop(cookie, None)
            upstream = self._upstreams.get(cookie)
            if upstream:
                self._upstreams.close_one(upstream)
            self._tables.delete_upstream(cookie)

    # Leaving

    def _retire(self, pool: Pool, upstream: Upstream, *, reset: bool = False) -> None:
        """A free one must go: programs pass over it from now on, unless one of them has taken it."""
        if not (pool.free.pop(upstream.cookie, None) and self._tables.mark_dead(upstream.cookie)):
            upstream.is_leaving = True
            self._tasks.start(self._follow_taken(pool, upstream, reset=reset))
            return
        pool.stale.add(upstream.cookie)
        if not pool.is_cleaning:
            pool.is_cleaning = True
            self._loop.call_soon(self._clean, pool)
        self._upstreams.close_one(upstream, reset=reset)

    async def _follow_taken(self, pool: Pool, upstream: Upstream, *, reset: bool) -> None:
        """A program popped one that leaves, and TAKEN may be heard or not. Once that program has ended, its element
        says for whom; without an element nobody has it: the program saw that it is unfit, or put it back."""
        cookie, is_open = upstream.cookie, self.pools.get(pool.key) is pool
        if is_open:
            await asyncio.to_thread(self._tables.fence, *pool.key, pool.queue)
            is_open = self.pools.get(pool.key) is pool
        state = self._tables.read_upstream(cookie)
        if self._upstreams.get(cookie) is not upstream:
            return
        if not upstream.client and state and state.client:
            self.note_taken(state.client, cookie)
        if upstream.client:
            self._upstreams.watch_again(upstream)  # its end may be why it leaves, and is told once
        elif is_open:
            pool.free[cookie] = upstream
            self._retire(pool, upstream, reset=reset)
        else:
            self._upstreams.close_one(upstream, reset=reset)
            self._tables.delete_upstream(cookie)

    def _clean(self, pool: Pool) -> None:
        pool.is_cleaning = False
        if self.pools.get(pool.key) is not pool:
            return
        first = None
        for _ in range(LIMITS["POOL_SIZE"]):
            raw = bpf.pop(pool.queue, ID.size)
            if raw is None:
                break
            if ID.unpack(raw)[0] in pool.free:
                self._put_back(pool, raw)
            elif self._forget_popped(pool, raw):
                continue
            if raw == first:
                break  # once around
            first = first or raw
        while pool.stale:  # programs popped these, and passed over them
            self._tables.delete_upstream(pool.stale.pop())
        self._fill(pool)

    def _follow_cluster(self, pool: Pool) -> None:
        """Its endpoints may be others now."""
        try:
            target = self._dialler.read_target(pool.key[1])
        except Broken:
            return
        if target == pool.target:
            return
        pool.target, pool.backends = target, self._dialler.list_backends(pool.key[1])
        for upstream in self._upstreams:
            if (upstream.netns, upstream.cluster) != pool.key or self._belongs(pool, upstream.backend):
                continue
            upstream.is_leaving = True
            if upstream.cookie in pool.free:
                self._retire(pool, upstream)
            elif upstream.client:
                self._tasks.start(self._drain(upstream))

    def _belongs(self, pool: Pool, backend: int) -> bool:
        return pool.backends is not None and backend in pool.backends

    async def _drain(self, upstream: Upstream) -> None:
        """A bound one leaves between two exchanges: first no program can find it, then its state says."""
        client, cookie = upstream.client, upstream.cookie
        self._tables.unbind(client, upstream.cluster, cookie)
        pool = self.pools.get((upstream.netns, upstream.cluster))
        if pool:
            await asyncio.to_thread(self._tables.fence, *pool.key, pool.queue)
        while self._upstreams.get(cookie) is upstream and upstream.client == client:
            state = self._tables.read_upstream(cookie)
            if state is None or not (state.is_in_flight or state.state == AnswerState.RELAYED):  # that will be told
                self.drop(upstream)
                self._dropped(client)
                return
            await asyncio.sleep(_DRAIN_POLL_S)

    # Pools that come and go

    def _open(self, netns: int, cluster: int) -> Pool | None:
        """None where there must be none."""
        pool = self.pools.get((netns, cluster))
        if pool or netns not in self._namespaces or self._timeout_of(cluster) is None:
            return pool
        if len(self.pools) >= LIMITS["STREAMS"]:
            return None
        try:
            target = self._dialler.read_target(cluster)
        except Broken:
            return None
        queue = self._tables.open_pool(netns, cluster)
        pool = Pool((netns, cluster), queue, target, self._dialler.list_backends(cluster))
        self.pools[pool.key] = pool
        return pool

    def _close_if_unused(self, pool: Pool) -> None:
        if not (pool.free or pool.stale or pool.dialling) and not any(
            (upstream.netns, upstream.cluster) == pool.key for upstream in self._upstreams
        ):
            self._close_pool(pool)

    def _close_pool(self, pool: Pool) -> None:
        del self.pools[pool.key]
        self._tables.delete_pool(*pool.key)
        self._pop_some(pool, len(pool.free) + len(pool.stale))
        os.close(pool.queue)


def _has_spoken(sock: socket.socket) -> bool:
    """Before programs saw what it says: bytes that no one asked for, or the end."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True
