"""Pools of upstream connections, with the kernel's queues; the programs' part is played by the test."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kmesh.kernel import bpf
from kmesh.kernel.namespaces import NamespaceThread, namespace_cookie
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action, AnswerState, Reason
from kmesh.records.digest import name_id
from kmesh.records.layout import BOUND_KEY, EXCHANGE, ID
from kmesh.relay.demand import IDLE_S
from kmesh.relay.dial import Dialler
from kmesh.relay.journal import Journal
from kmesh.relay.namespaces import Namespace
from kmesh.relay.pools import Pool, Pools
from kmesh.relay.stream_tables import StreamTables
from kmesh.relay.tasks import Tasks
from kmesh.relay.upstreams import Upstream, Upstreams
from tests.kernel.conftest import Kernel
from tests.support.records import backend, cluster, cursor_node, image

CLIENT = 77


class Server:
    """Accepts, and does what it is told with its connections. Context manager."""

    def __init__(self, greeting: bytes = b"") -> None:
        self._greeting = greeting
        self.socks: list[socket.socket] = []

    def __enter__(self) -> Server:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.address = SocketAddress.parse(*self._listener.getsockname())
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for sock in self.socks:
            sock.close()

    def accept(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                sock.sendall(self._greeting)
                self.socks.append(sock)
        except BlockingIOError:
            pass


class Rig:
    """Pools of one namespace, with everything that they need."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.cluster = name_id("cluster", "c")
        self.dropped: list[int] = []
        self.ended: list[Upstream] = []

    def point_at(self, *servers: Server) -> None:
        """Cluster `c` at these; at none: no endpoint."""
        backends = [backend(server.address) for server in servers]
        node, records = cursor_node("n", [number for number, _ in backends]) if backends else (0, [])
        way = (Action.NODE, node) if backends else (Action.REFUSE, Reason.NO_ENDPOINT)
        _, cell = cluster("c", *way)
        self._kernel.applier.apply(image(c=[*(record for _, record in backends), *records, cell]))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Rig]:
        maps_dir = self._kernel.build.maps_dir
        self.tables, self.dialler, self.tasks = StreamTables(maps_dir), Dialler(maps_dir), Tasks()
        thread = NamespaceThread()
        with socket.socket() as sock:
            self.netns = namespace_cookie(sock)
        known = {self.netns: Namespace(0, self.netns, -1, thread)}
        self.upstreams = Upstreams(Journal(), self._note_end)
        self.pools = Pools(
            self.tables,
            self.dialler,
            known,
            self.upstreams,
            self.tasks,
            timeout_of={self.cluster: 1.0}.get,
            dropped=self.dropped.append,
        )
        try:
            yield self
        finally:
            await self.tasks.close()
            self.pools.close()
            self.upstreams.close()
            for closing in (self.dialler, self.tables, thread):
                closing.close()

    def _note_end(self, upstream: Upstream) -> None:
        self.ended.append(upstream)
        self.pools.drop(upstream)

    @property
    def pool(self) -> Pool:
        return self.pools.pools[self.netns, self.cluster]

    async def fill(self, count: int) -> None:
        self.pools.note_needed(self.netns, self.cluster, count)
        await until(lambda: len(self.pool.free) == 2 * count)

    def pop(self) -> int:
        raw = bpf.pop(self.pool.queue, 8)
        assert raw is not None
        (cookie,) = ID.unpack(raw)
        return cookie

    def take(self, client: int = CLIENT) -> int:
        """As km_take_pooled() does, all but the event."""
        cookie = self.pop()
        self.tables.mark_dead(cookie)  # an element of some state: enough to be in the way
        key = BOUND_KEY.pack(client, self.cluster)
        bpf.update(self.tables._fds["bound"], key, ID.pack(cookie))
        return cookie

    def set_state(self, cookie: int, state: AnswerState, client: int = CLIENT) -> None:
        fd, size = self.tables._fds["upstream"], self.tables._upstream_bytes
        exchange = ID.pack(client).ljust(EXCHANGE.offset("state"), b"\0") + bytes([state])
        bpf.update(fd, ID.pack(cookie), exchange.ljust(size, b"\0"))

    def list_queue(self) -> list[int]:
        """What programs would pop, in order; all of it is put back."""
        held = []
        while raw := bpf.pop(self.pool.queue, 8):
            held.append(raw)
        for raw in held:
            bpf.push(self.pool.queue, raw)
        return [ID.unpack(raw)[0] for raw in held]


async def until(is_so: Callable[[], bool], limit_s: float = 3.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


@pytest.fixture
def rig(kernel: Kernel) -> Rig:
    return Rig(kernel)


def test_it_grows_with_demand(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            await rig.fill(5)
            assert sorted(rig.list_queue()) == sorted(rig.pool.free)
            assert all(map(rig.tables.has_upstream, rig.pool.free))
            taken = rig.take()
            rig.pools.note_taken(CLIENT, taken)
            assert [upstream.cookie for upstream in rig.upstreams.of_client(CLIENT)] == [taken]
            await until(lambda: len(rig.pool.free) >= 10)

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_what_came_back_is_free(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            await rig.fill(1)
            taken = rig.take()
            rig.pools.note_taken(CLIENT, taken)
            bpf.push(rig.pool.queue, ID.pack(taken))  # as the program does
            rig.pools.note_returned(taken)
            assert taken in rig.pool.free
            assert not rig.upstreams.of_client(CLIENT)

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_idle_ones_are_closed_after_a_minute(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with rig.run():
            await rig.fill(4)
            server.accept()
            rig.pools.tick()
            assert len(rig.pool.free) == 8
            now = asyncio.get_running_loop().time() + IDLE_S
            monkeypatch.setattr(rig.pools._loop, "time", lambda: now, raising=False)
            rig.pools.tick()
            assert not rig.pools.pools
            assert (rig.netns, rig.cluster) not in rig.tables.pools()
            assert all(sock.recv(1) == b"" for sock in server.socks)

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
def test_dead_ones_leave_the_queue(rig: Rig, is_reset: bool) -> None:
    """And are passed over by programs from before their descriptors are closed until then."""

    async def run() -> None:
        async with rig.run():
            await rig.fill(3)
            server.accept()
            before = set(rig.pool.free)
            for sock in server.socks[:4]:
                if is_reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
                sock.close()
            await until(lambda: len(rig.ended) == 4)
            dead = {upstream.cookie for upstream in rig.ended}
            assert dead < before
            await until(lambda: len(rig.pool.free) == 6 and not rig.pool.stale)
            assert sorted(rig.list_queue()) == sorted(rig.pool.free)
            assert not dead & rig.pool.free.keys()
            assert not dead & set(rig.tables.upstreams())

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_servers_that_speak_first_are_never_offered(rig: Rig) -> None:
    """A greeting may come before the socket is the programs', or after: then they tell BREACH."""

    async def run() -> None:
        async with rig.run():
            number, _ = backend(server.address)
            rig.pools.note_needed(rig.netns, rig.cluster, 0)
            with socket.create_connection((server.address.ip, server.address.port)) as sock:
                sock.setblocking(False)
                server.accept()
                await until(lambda: _is_readable(sock))
                assert not rig.pools.offer(sock, rig.netns, rig.cluster, number)
            assert not rig.pool.free

    with Server(b"220 hello\r\n") as server:
        rig.point_at(server)
        asyncio.run(run())


def _is_readable(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_failures_are_not_repeated_at_once(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            rig.pools.note_needed(rig.netns, rig.cluster)
            await until(lambda: rig.pool.dialling == 0)
            failed = rig.dialler.failures.total()
            assert failed
            for _ in range(50):
                rig.pools.note_needed(rig.netns, rig.cluster)
                await asyncio.sleep(0)
            assert rig.dialler.failures.total() == failed
            await asyncio.sleep(rig.pool.pause_s)
            rig.pools.tick()
            await until(lambda: rig.dialler.failures.total() > failed)

    with Server() as server:
        gone = server
    rig.point_at(gone)
    asyncio.run(run())


def test_endpoints_that_are_gone_are_drained(rig: Rig) -> None:
    """Free connections at once; a bound one when its exchange is over, and programs cannot find it meanwhile."""

    async def run() -> None:
        async with rig.run():
            await rig.fill(3)
            idle, busy = rig.take(CLIENT), rig.take(CLIENT + 1)
            rig.pools.note_taken(CLIENT, idle)
            rig.pools.note_taken(CLIENT + 1, busy)
            rig.set_state(idle, AnswerState.IDLE)
            rig.set_state(busy, AnswerState.BODY)
            old = set(rig.pool.free)
            rig.point_at(new)
            rig.pools.tick()
            assert not old & rig.pool.free.keys()
            await until(lambda: rig.upstreams.get(idle) is None)
            assert rig.dropped == [CLIENT]
            assert rig.upstreams.get(busy)
            assert not rig.tables.read_bound(CLIENT + 1, rig.cluster)
            rig.set_state(busy, AnswerState.IDLE)
            await until(lambda: rig.upstreams.get(busy) is None)
            assert rig.dropped == [CLIENT, CLIENT + 1]
            await until(lambda: len(rig.pool.free) >= 2)
            assert {upstream.backend for upstream in rig.pool.free.values()} == {backend(new.address)[0]}
            assert sorted(rig.list_queue()) == sorted(rig.pool.free)

    with Server() as old, Server() as new:
        rig.point_at(old)
        asyncio.run(run())


def test_one_that_a_program_takes_while_it_leaves_is_drained(rig: Rig) -> None:
    """TAKEN is not heard yet: the queue lacks it already, and its element is the program's."""

    async def run() -> None:
        async with rig.run():
            await rig.fill(1)
            taken = rig.pop()
            rig.set_state(taken, AnswerState.BODY)
            rig.point_at(new)
            rig.pools.tick()
            await until(lambda: [upstream.cookie for upstream in rig.upstreams.of_client(CLIENT)] == [taken])
            rig.pools.note_taken(CLIENT, taken)
            await asyncio.sleep(0.1)
            assert rig.upstreams.get(taken) and rig.tables.has_upstream(taken)
            rig.set_state(taken, AnswerState.IDLE)
            await until(lambda: rig.upstreams.get(taken) is None)
            assert rig.dropped == [CLIENT]
            assert not rig.pool.stale

    with Server() as old, Server() as new:
        rig.point_at(old)
        asyncio.run(run())


def test_the_end_of_one_that_a_program_takes_is_told_again(rig: Rig) -> None:
    """As that of a bound one: a client waits for an answer by it."""

    async def run() -> None:
        async with rig.run():
            await rig.fill(1)
            server.accept()
            taken = rig.pop()
            rig.set_state(taken, AnswerState.HEAD)
            for sock in server.socks:
                sock.close()
            await until(lambda: [upstream.cookie for upstream in rig.ended].count(taken) == 2)
            await until(lambda: rig.upstreams.get(taken) is None)

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_one_that_a_program_takes_and_gives_up_is_closed(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            await rig.fill(1)
            taken = rig.pop()
            upstream = rig.upstreams.get(taken)
            assert upstream
            rig.set_state(taken, AnswerState.IDLE, client=0)
            rig.pools.drop(upstream)
            assert rig.upstreams.get(taken) is upstream
            await asyncio.sleep(0.05)
            assert rig.upstreams.get(taken) is upstream
            rig.tables.delete_upstream(taken)
            await until(lambda: rig.upstreams.get(taken) is None and not rig.pool.stale)
            assert taken not in rig.tables.upstreams()

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_a_dead_one_that_a_program_passed_over_leaves_nothing(rig: Rig) -> None:
    """It is in no queue any more, so nobody will pop it."""

    async def run() -> None:
        async with rig.run():
            await rig.fill(2)
            first = rig.pop()
            upstream = rig.upstreams.get(first)
            assert upstream
            rig.pools.drop(upstream)
            await until(lambda: len(rig.pool.free) == 4)
            await until(lambda: not rig.pool.stale)
            assert first not in rig.tables.upstreams()
            assert sorted(rig.list_queue()) == sorted(rig.pool.free)

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_a_cluster_without_endpoints_keeps_no_connection(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            await rig.fill(2)
            rig.point_at()
            rig.pools.tick()
            await until(lambda: not rig.pool.stale)
            assert not rig.pool.free
            assert not rig.list_queue()

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_a_namespace_that_is_left_keeps_no_connection(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            await rig.fill(2)
            rig.pools.note_taken(CLIENT, rig.take())
            rig.pools.close_namespace(rig.netns)
            assert not len(rig.upstreams)
            assert not rig.pools.pools
            assert (rig.netns, rig.cluster) not in rig.tables.pools()

    with Server() as server:
        rig.point_at(server)
        asyncio.run(run())


def test_a_cluster_that_is_not_for_programs_has_no_pool(rig: Rig) -> None:
    async def run() -> None:
        async with rig.run():
            rig.pools.note_needed(rig.netns, 12345)
            assert not rig.pools.pools

    asyncio.run(run())
