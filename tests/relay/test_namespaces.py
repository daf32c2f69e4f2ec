"""Namespaces of enrolled processes: found, served, and left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from kmesh.kernel import bpf
from kmesh.kernel.namespaces import NamespaceThread, find_namespace, namespace_cookie
from kmesh.model.address import SocketAddress
from kmesh.records.layout import PEER, PEER_KEY
from kmesh.relay.acceptors import Acceptors
from kmesh.relay.adoption import Adopted
from kmesh.relay.cgroup_scan import CgroupScan
from kmesh.relay.journal import Journal
from kmesh.relay.namespaces import Namespace, Namespaces
from kmesh.relay.stream_tables import Peer, StreamTables
from tests.kernel.conftest import Kernel
from tests.support.sandbox import Sandbox

PAUSE = ["unshare", "--net", "sleep", "infinity"]
"""A namespace whose loopback is down."""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@contextmanager
def pod(sandbox: Sandbox) -> Iterator[int]:
    """Process id of what is in a namespace of its own."""
    process = sandbox.spawn(PAUSE, enrolled=True)
    try:
        deadline = time.monotonic() + 5
        while find_namespace(process.pid) == find_namespace("self"):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def start_in(cgroup: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sh", "-c", f"echo 0 > {cgroup}/cgroup.procs; exec {' '.join(PAUSE)}"])


class Told:
    def __init__(self) -> None:
        self.opened: list[Namespace] = []
        self.closed: list[Namespace] = []
        self.used: set[int] = set()

    async def open(self, namespace: Namespace) -> None:
        self.opened.append(namespace)


@asynccontextmanager
async def watched(cgroup: Path) -> AsyncIterator[tuple[Namespaces, Told]]:
    told = Told()
    async with Namespaces([cgroup], told.open, told.closed.append, told.used.__contains__) as namespaces:
        running = asyncio.create_task(namespaces.run())
        yield namespaces, told
        running.cancel()


async def until(is_so: Callable[[], bool], limit_s: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < limit_s
        await asyncio.sleep(0.002)
    return time.monotonic() - began


def test_its_own_namespace_is_always_served(sandbox: Sandbox) -> None:
    async def run() -> None:
        async with watched(sandbox.pods) as (namespaces, told):
            (own,) = told.opened
            assert namespaces.known == {own.cookie: own}
            with socket.socket() as sock:
                assert namespace_cookie(sock) == own.cookie

    asyncio.run(run())


def test_a_pod_is_found_at_the_start(sandbox: Sandbox) -> None:
    async def run(pid: int) -> None:
        async with watched(sandbox.pods) as (_, told):
            assert [namespace.inode for namespace in told.opened[1:]] == [find_namespace(pid)]

    with pod(sandbox) as pid:
        asyncio.run(run(pid))


def test_a_new_pod_is_found_at_once_and_left_soon_after_its_last_process(sandbox: Sandbox) -> None:
    async def run() -> None:
        async with watched(sandbox.pods) as (namespaces, told):
            with pod(sandbox):
                assert await until(lambda: len(told.opened) == 2, 2) < 0.3
                namespace = told.opened[1]
                with await namespace.make_socket(socket.AF_INET) as inside:
                    assert namespace_cookie(inside) == namespace.cookie != told.opened[0].cookie
            assert await until(lambda: bool(told.closed), 4) < 3.5
            assert told.closed == [namespace]
            assert namespace.cookie not in namespaces.known

    asyncio.run(run())


def test_a_pod_in_a_cgroup_made_later(sandbox: Sandbox) -> None:
    async def run() -> None:
        async with watched(sandbox.pods) as (_, told):
            below = sandbox.pods / "slice" / "container"
            below.mkdir(parents=True)
            process = start_in(below)
            try:
                assert await until(lambda: len(told.opened) == 2, 2) < 0.3
            finally:
                process.kill()
                process.wait()

    asyncio.run(run())


def test_clients_keep_their_namespace(sandbox: Sandbox) -> None:
    async def run() -> None:
        async with watched(sandbox.pods) as (_, told):
            with pod(sandbox):
                await until(lambda: len(told.opened) == 2, 2)
                told.used.add(told.opened[1].cookie)
            await asyncio.sleep(2.5)
            assert not told.closed
            told.used.clear()
            await until(lambda: bool(told.closed), 2.5)

    asyncio.run(run())


def test_a_process_that_is_named_is_looked_at(sandbox: Sandbox) -> None:
    """As the event NO_ACCEPTOR does, though the process is in no cgroup that is watched."""

    async def run(pid: int) -> None:
        async with watched(sandbox.mesh) as (namespaces, told):
            namespaces.note_process(pid)
            assert await until(lambda: len(told.opened) == 2, 1) < 0.2

    with pod(sandbox) as pid:
        asyncio.run(run(pid))


def test_a_process_that_changes_its_namespace_is_asked_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmesh.relay.cgroup_scan.WHOLE_S", 0.0)
    scan = CgroupScan([sandbox.pods])
    process = sandbox.spawn(["/bin/sh", "-c", "kill -STOP $$; exec unshare --net sleep infinity"], enrolled=True)
    try:
        os.waitpid(process.pid, os.WUNTRACED)
        own = find_namespace("self")
        assert own in scan.scan()
        os.kill(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + 5
        while own in scan.scan():
            assert time.monotonic() < deadline
        assert len(scan.scan()) == 1
    finally:
        process.kill()
        process.wait()
        scan.close()


def test_acceptors_before_the_loopback_is_up(kernel: Kernel) -> None:
    """The connection that a stranger makes is closed; one whose peer is known is accepted, and has TCP_NODELAY."""
    accepted: list[tuple[socket.socket, Peer]] = []

    async def run(pid: int) -> None:
        tables, thread = StreamTables(kernel.build.maps_dir), NamespaceThread()
        acceptors = Acceptors(tables, Journal(), lambda sock, _, peer: accepted.append((sock, peer)), Adopted())
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        (probe,) = await asyncio.wrap_future(thread.make(fd, socket.AF_INET))
        namespace = Namespace(0, namespace_cookie(probe), fd, thread)
        await acceptors.open(namespace)
        enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        await asyncio.to_thread(subprocess.run, [*enter, "ip", "link", "set", "lo", "up"], check=True)
        port4, port6 = acceptors.ports(namespace.cookie)
        assert port4
        assert port6
        stranger, known = await asyncio.wrap_future(thread.make(fd, socket.AF_INET, 2))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stranger, ("127.0.0.1", port4))
        assert await loop.sock_recv(stranger, 1) == b""
        known.bind(("127.0.0.1", 0))
        note_peer(kernel, namespace.cookie, known.getsockname()[1])
        await loop.sock_connect(known, ("127.0.0.1", port4))
        await until(lambda: bool(accepted), 1)
        assert acceptors.counts == {"strangers": 1, "accepted": 1}
        acceptors.close(namespace.cookie)
        assert namespace.cookie not in tables.acceptors()
        for sock in (probe, stranger, known):
            sock.close()
        os.close(fd)
        thread.close()
        tables.close()

    with pod(kernel.sandbox) as pid:
        asyncio.run(run(pid))
    ((sock, peer),) = accepted
    assert (peer.client, peer.routing, str(peer.asked)) == (7, 8, "10.0.0.1:80")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    sock.close()


def note_peer(kernel: Kernel, netns: int, port: int) -> None:
    """As km_sockops does."""
    fd = bpf.get_object(kernel.build.maps_dir / "km_peer")
    asked = SocketAddress.parse("10.0.0.1", 80)
    key = PEER_KEY.pack(netns, SocketAddress.parse("127.0.0.1", 0).addr16, socket.htons(port))
    bpf.update(fd, key, PEER.pack(7, 8, asked.addr16, socket.htons(asked.port)))
    os.close(fd)
