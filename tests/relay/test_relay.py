"""The relay put together, with the programs: what it leaves behind, and how it follows what changes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kmesh.kernel import bpf
from kmesh.records.digest import name_id
from kmesh.records.layout import BOUND_KEY, GRANT, ID, PEER, PEER_KEY, STREAM
from kmesh.relay.decide import Decision
from kmesh.relay.head import RequestHead
from kmesh.relay.stream_tables import StreamTables
from kmesh.relay.sweep import Sweeper
from tests.kernel.conftest import Kernel
from tests.support.l7_mesh import L7Mesh
from tests.support.odd_server import odd_server

ROUTES = {
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/a/"}, "route": {"cluster": "a", "timeout": "0s"}}],
        }
    ]
}
PRELUDE = textwrap.dedent("""
    import json, socket, sys, time
    REQUEST = b"GET /a/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    def connect():
        s = socket.create_connection(("127.96.0.1", 80), timeout=3)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s
    def ask(s, request=REQUEST):
        s.sendall(request)
        return s.recv(1000).decode().rpartition("\\n")[2]
""")


@pytest.fixture
def mesh(kernel: Kernel) -> Iterator[L7Mesh]:
    with ExitStack() as stack:
        server = stack.enter_context(odd_server("a"))
        yield stack.enter_context(L7Mesh(kernel, ROUTES, {"a": server}))


@pytest.fixture
def tables(kernel: Kernel) -> Iterator[StreamTables]:
    tables = StreamTables(kernel.build.maps_dir)
    yield tables
    tables.close()


def run(mesh: L7Mesh, code: str) -> object:
    return json.loads(mesh.kernel.sandbox.python(PRELUDE + textwrap.dedent(code)))


def until(is_so: Callable[[], bool], limit_s: float = 3.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_clients_leave_nothing_behind(mesh: L7Mesh, tables: StreamTables) -> None:
    got = run(
        mesh,
        """
        out = []
        for number in range(30):
            s = connect()
            out.append(ask(s))
            if number % 3 == 0:
                out.append(ask(s, REQUEST.replace(b"/a/x", b"/a/chunked")))
            if number % 3 == 1:
                ask(s, REQUEST.replace(b"/a/", b"/none/"))
            s.close()
        print(json.dumps(out.count("a")))
        """,
    )
    assert got == 30
    until(lambda: mesh.status()["clients"] == 0)
    assert not tables.streams()
    assert not tables.grants()
    assert not list(tables.bound())
    assert not list(tables.peers())
    assert set(tables.upstreams()) <= set(mesh.on_loop(lambda: mesh.relay.pools.stale))


def test_endpoints_change_under_a_connection(mesh: L7Mesh) -> None:
    """No request is lost, and those that begin after the change reach the new endpoint."""
    with odd_server("new") as address, socket.socket() as signal:
        signal.bind(("127.0.0.1", 0))
        signal.listen()
        process = mesh.kernel.sandbox.spawn(
            ["python3", "-c", PRELUDE + CHANGING, str(signal.getsockname()[1])], enrolled=True, stdout=-1
        )
        told, _ = signal.accept()
        mesh.change_endpoints("a", [address])
        time.sleep(0.3)  # draining takes a grace period of the kernel's
        told.sendall(b"x")
        out, _ = process.communicate(timeout=10)
        told.close()
    during, after = json.loads(out)
    assert set(during) <= {"a", "new"}
    assert set(after) == {"new"}


CHANGING = textwrap.dedent("""
    s = connect()
    during = [ask(s) for _ in range(100)]
    told = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    told.setblocking(False)
    while True:
        during.append(ask(s))
        try:
            told.recv(1)
            break
        except BlockingIOError:
            pass
    print(json.dumps([during, [ask(s) for _ in range(100)]]))
""")


def test_a_half_closed_client_gets_its_answer_and_its_end(mesh: L7Mesh) -> None:
    got = run(
        mesh,
        """
        out = []
        for path in (b"/a/slow", b"/a/chunked", b"/a/close"):
            s = connect()
            s.sendall(REQUEST.replace(b"/a/x", path))
            s.shutdown(socket.SHUT_WR)
            received = b""
            while part := s.recv(1000):
                received += part
            out.append(b"200 OK" in received)
        print(json.dumps(out))
        """,
    )
    assert got == [True, True, True]
    until(lambda: mesh.status()["clients"] == 0)


def test_a_request_lost_before_its_client_was_accepted_is_answered(mesh: L7Mesh) -> None:
    acceptors = mesh.relay._acceptors  # to keep it from accepting by itself

    def stop_accepting() -> None:
        for listeners in acceptors._listeners.values():
            for listener in listeners:
                asyncio.get_running_loop().remove_reader(listener)

    mesh.on_loop(stop_accepting)
    code = "s = connect(); s.sendall(REQUEST.replace(b'/x', b'/die')); print(json.dumps(s.recv(12).decode()))"
    assert run(mesh, code) == "HTTP/1.1 503"


def test_who_connects_to_the_acceptor_by_hand_is_shown_the_door(mesh: L7Mesh) -> None:
    (served,) = mesh.status()["namespaces"]
    ip, _, port = served["acceptors"][0].rpartition(":")
    with socket.create_connection((ip, int(port)), timeout=2) as sock:
        assert sock.recv(1) == b""


def test_a_mistake_with_one_client_is_no_other_clients(mesh: L7Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    decide, note_returned = mesh.relay.decide, mesh.relay.pools.note_returned

    def fail(head: RequestHead, routing: int, port: int) -> Decision:
        if b"/mistake/" in head.raw:
            raise KeyError("a mistake")
        return decide(head, routing, port)

    def fail_to_hear(*_: int) -> None:
        monkeypatch.setattr(mesh.relay.pools, "note_returned", note_returned)
        raise KeyError("another")

    monkeypatch.setattr(mesh.relay, "decide", fail)
    monkeypatch.setattr(mesh.relay.pools, "note_returned", fail_to_hear)
    got = run(
        mesh,
        """
        others = [connect() for _ in range(8)]
        out = [ask(s) for s in others]
        wrong = connect()
        wrong.sendall(REQUEST.replace(b"/a/", b"/mistake/"))
        try:
            out.append(len(wrong.recv(1000)))
        except ConnectionResetError:
            out.append("reset")
        out += [ask(s) for s in others]
        out += [ask(s, REQUEST.replace(b"/a/", b"/none/")) for s in others]
        print(json.dumps(out))
        """,
    )
    assert got == [*["a"] * 8, "reset", *["a"] * 8, *[""] * 8]
    until(lambda: mesh.status()["clients"] == 0)
    assert mesh.relay.pools.note_returned == note_returned, "one event was heard in vain"


def test_status(mesh: L7Mesh) -> None:
    before = mesh.count()
    run(mesh, "s = connect(); ask(s); ask(s, REQUEST.replace(b'/a/', b'/none/')); print(json.dumps([ask(s)]))")
    until(lambda: mesh.status()["clients"] == 0)
    now = mesh.count()
    assert (now.kernel - before.kernel, now.relay - before.relay) == (2, 1)
    status = mesh.status()
    (pool,) = status["pools"]
    assert pool["cluster"] == name_id("cluster", "a")
    assert pool["idle"] >= 2
    assert status["pid"] == os.getpid()
    assert status["relayed"]["answered 404"] == 1


def test_what_a_dead_relay_left_is_swept(kernel: Kernel, tables: StreamTables) -> None:
    """What belongs to sockets that are there stays."""
    dead, alive = 901, 902
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        fds = {name: bpf.get_object(kernel.build.maps_dir / f"km_{name}") for name in _SWEPT}
        bpf.update(fds["clients"], ID.pack(alive), ID.pack(sock.fileno()))
        for client in (dead, alive):
            bpf.update(fds["stream"], ID.pack(client), bytes(STREAM.size))
            bpf.update(fds["grant"], ID.pack(client), bytes(GRANT.size))
            bpf.update(fds["peer"], PEER_KEY.pack(1, bytes(16), client), PEER.pack(client, 0, bytes(16), 0))
        bpf.update(fds["bound"], BOUND_KEY.pack(alive, 1), ID.pack(dead))
        tables.mark_dead(903)
        tables.mark_dead(904)
        for netns in (905, 906):
            tables.set_acceptor(netns, 0, 0)

        async def sweep() -> None:
            sweeper = Sweeper(tables, lambda: {904}, lambda: {906})
            await sweeper.sweep()
            assert sweeper.swept == 0, "all of it might have been written a moment ago"
            await sweeper.sweep()

        asyncio.run(sweep())
        assert tables.streams() == tables.grants() == [alive]
        assert [client for _, client in tables.peers()] == [alive]
        assert not list(tables.bound())
        assert tables.upstreams() == [904]
        assert tables.acceptors() == [906]
        tables.delete_acceptor(906)
        tables.delete_client(alive)
        tables.delete_upstream(904)
        for key, _ in list(tables.peers()):
            tables.delete_peer(key)
        for fd in fds.values():
            os.close(fd)


_SWEPT = ("clients", "stream", "grant", "peer", "bound")
