"""A full ring of events: programs can tell nothing, and still nobody waits for ever."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kmesh.kernel import bpf
from kmesh.kernel.features import probe_features
from kmesh.kernel.sockets import possible_cpus
from kmesh.records.constants import AnswerState, StreamEvent
from kmesh.records.layout import EXCHANGE, ID, STREAM
from kmesh.relay.stream_tables import StreamTables
from tests.kernel.conftest import open_kernel
from tests.kernel.test_streams import ANSWER, ANSWER_B, HEAD, LEAVES, LOST, ROUTES, ask, get, send
from tests.relay.test_inheritance import Puppet, Relays, client, relays  # noqa: F401 -- fixtures
from tests.relay.test_inheritance import get as get_bytes
from tests.relay.test_relay import until
from tests.support.full_ring import full_ring
from tests.support.l7_mesh import L7Mesh
from tests.support.odd_server import odd_server
from tests.support.sandbox import Sandbox


@pytest.fixture(scope="module")
def mesh() -> Iterator[L7Mesh]:
    with Sandbox() as sandbox, ExitStack() as stack:
        kernel = open_kernel(sandbox, probe_features())
        endpoints = {name: stack.enter_context(odd_server(name)) for name in "ab"}
        yield stack.enter_context(L7Mesh(kernel, ROUTES, endpoints))


@pytest.fixture
def untold(mesh: L7Mesh) -> Iterator[None]:
    """Nothing is told during the test; behind it all is as it was."""
    mesh.wait_for_pools("a", "b")
    before = mesh.status()["untold"]
    with full_ring(mesh.kernel.build.maps_dir, mesh.on_loop):
        yield
        until(lambda: mesh.status()["untold"] > before)
    mesh.settle()
    assert ask(mesh, get("/a/x"), get("/h/x", x_who="b")) == [[200, "a"], [200, "b"]]
    until(lambda: mesh.status()["clients"] == 0)
    assert_nothing_is_left(mesh)


@contextmanager
def open_tables(mesh: L7Mesh) -> Iterator[StreamTables]:
    tables = StreamTables(mesh.kernel.build.maps_dir)
    yield tables
    tables.close()


def assert_nothing_is_left(mesh: L7Mesh) -> None:
    with open_tables(mesh) as tables:
        until(lambda: set(tables.upstreams()) <= set(mesh.on_loop(lambda: mesh.relay.pools.stale)))
        until(lambda: not any(pool["bound"] for pool in mesh.status()["pools"]))
        assert not tables.streams()
        assert not tables.grants()
        assert not list(tables.bound())


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("x", "a"),
        ("big", "\0" * 3000000),
        ("split", "a"),
        ("chunks", "".join(f"{number:064}" for number in range(400))),
        ("long", "\0" * 3000300),
        ("extension", "!!"),
        ("trailer", "!"),
        ("excess", "!"),
        ("ending", "a"),
    ],
    ids=lambda value: value[:12],
)
def test_answers_come(mesh: L7Mesh, path: str, body: str) -> None:
    """From their first byte, and from where the kernel left them; the next ones too."""
    got = ask(mesh, get(f"/a/{path}"), get("/h/x", x_who="b"), get(f"/a/{path}"))
    assert got == [[200, body], [200, "b"], [200, body]]


@pytest.mark.usefixtures("untold")
def test_an_answer_that_ends_with_its_connection(mesh: L7Mesh) -> None:
    assert ask(mesh, get("/a/close")) == [[200, "a"]]


@pytest.mark.usefixtures("untold")
def test_a_request_that_asks_to_close(mesh: L7Mesh) -> None:
    assert ask(mesh, get("/a/x", Connection="close")) == [[200, "a"]]
    assert ask(mesh, get("/a/big", Connection="close")) == [[200, "\0" * 3000000]]


@pytest.mark.usefixtures("untold")
def test_a_server_that_closes_without_an_answer(mesh: L7Mesh) -> None:
    assert ask(mesh, get("/a/die"), get("/a/x")) == [[503, LOST], [200, "a"]]


@pytest.mark.usefixtures("untold")
def test_pipelined_requests(mesh: L7Mesh) -> None:
    """They wait for ENDED."""
    slow = "GET /h/slow HTTP/1.1\r\nHost: x\r\nx-who: b\r\n\r\n"
    assert send(mesh, slow, HEAD, HEAD) == ANSWER_B + ANSWER * 2


@pytest.mark.usefixtures("untold")
def test_a_half_closed_client(mesh: L7Mesh) -> None:
    code = textwrap.dedent("""
        import json, socket, sys
        s = socket.create_connection(("127.96.0.1", 80), timeout=3)
        s.sendall(sys.argv[1].encode())
        s.shutdown(socket.SHUT_WR)
        out = b""
        while part := s.recv(65536):
            out += part
        print(json.dumps(out.decode()))
    """)
    assert json.loads(mesh.kernel.sandbox.python(code, HEAD.replace("/x", "/slow"))) == ANSWER


@pytest.mark.usefixtures("untold")
@pytest.mark.parametrize("when", ["at once", "reset", "answered"])
def test_clients_that_leave(mesh: L7Mesh, when: str) -> None:
    for path in ("/x", "/slow", "/big"):
        mesh.kernel.sandbox.python(LEAVES, HEAD.replace("/x", path), when)


STAYS = textwrap.dedent("""
    import json, socket, sys, time
    def ask(request):
        s.sendall(request.encode())
        return s.recv(65536).decode()
    s = socket.create_connection(("127.96.0.1", 80), timeout=3)
    first, wait_s, then = json.loads(sys.argv[1])
    out = [ask(first)]
    print("", flush=True)
    time.sleep(wait_s)
    try:
        out.append(ask(then))
    except OSError as error:
        out.append(error.strerror)
    print(json.dumps(out))
""")


@pytest.mark.usefixtures("untold")
def test_bytes_behind_an_answer(mesh: L7Mesh) -> None:
    """Their connection is reset; the client's goes on."""
    got = json.loads(mesh.kernel.sandbox.python(STAYS, json.dumps([HEAD.replace("/x", "/late"), 0.05, HEAD])))
    assert got == [ANSWER, ANSWER]
    with open_tables(mesh) as tables:
        until(lambda: set(tables.upstreams()) <= set(mesh.on_loop(lambda: mesh.relay.pools.stale)))


def test_bytes_on_a_pooled_connection(mesh: L7Mesh) -> None:
    """It was returned while that could be told."""
    before = mesh.status()["untold"]
    mesh.kernel.sandbox.python(LEAVES, HEAD.replace("/x", "/later"), "answered")
    with full_ring(mesh.kernel.build.maps_dir, mesh.on_loop), open_tables(mesh) as tables:

        def count_breached() -> int:
            free = [cookie for pool in mesh.relay.pools.pools.values() for cookie in pool.free]
            return sum(tables.is_breached(cookie) for cookie in free)

        until(lambda: tables.count_untold() > before)
        until(lambda: mesh.on_loop(count_breached) == 0)
    assert [ask(mesh, get("/a/x")) for _ in range(8)] == [[[200, "a"]]] * 8


@pytest.mark.parametrize("where", ["to the client", "to be delivered"])
def test_lost_bytes(mesh: L7Mesh, where: str) -> None:
    """What programs have never been seen to do is written here: the client is reset."""
    command = [sys.executable, "-c", STAYS, json.dumps([HEAD, 2, HEAD])]
    process = mesh.kernel.sandbox.spawn(command, enrolled=True, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    with open_tables(mesh) as tables:
        (cookie,) = tables.streams()
        stream = tables.read_stream(cookie)
        assert stream
        if where == "to the client":
            change(mesh, "km_stream", cookie, {STREAM.offset("is_torn"): 1})
        else:
            told = {EXCHANGE.offset("told"): StreamEvent.TORN, EXCHANGE.offset("state"): AnswerState.RELAYED}
            change(mesh, "km_upstream", stream.bound, told)
        count_one_untold(mesh)
        until(lambda: mesh.status()["clients"] == 0)
    out, _ = process.communicate(timeout=10)
    assert json.loads(out) == [ANSWER, os.strerror(errno.ECONNRESET)]
    assert_nothing_is_left(mesh)


def change(mesh: L7Mesh, name: str, cookie: int, words: dict[int, int]) -> None:
    """Words of 32 bits, by where they are."""
    fd = bpf.get_object(mesh.kernel.build.maps_dir / name)
    value = bytearray(bpf.lookup(fd, ID.pack(cookie), bpf.map_info(fd).value_size) or b"")
    for at, word in words.items():
        struct.pack_into("<I", value, at, word)
    bpf.update(fd, ID.pack(cookie), bytes(value))
    os.close(fd)


def count_one_untold(mesh: L7Mesh) -> None:
    fd = bpf.get_object(mesh.kernel.build.maps_dir / "km_untold")
    counts = struct.Struct(f"<{possible_cpus()}Q")
    first, *others = counts.unpack(bpf.lookup(fd, bytes(4), counts.size) or b"")
    bpf.update(fd, bytes(4), counts.pack(first + 1, *others))
    os.close(fd)


@pytest.mark.usefixtures("untold")
def test_the_last_answer_of_a_client_is_its_end(mesh: L7Mesh) -> None:
    request = HEAD.replace("/x", "/staying").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    began = time.monotonic()
    head, first, then = json.loads(mesh.kernel.sandbox.python(ENDS, request))
    assert (head.count("lose"), first, then) == (1, "a", "")
    assert time.monotonic() - began < 2.5


ENDS = textwrap.dedent("""
    import json, socket, sys
    s = socket.create_connection(("127.96.0.1", 80), timeout=3)
    s.sendall(sys.argv[1].encode())
    answer = s.recv(65536).decode()
    print(json.dumps([*answer.split("\\r\\n\\r\\n"), s.recv(65536).decode()]))
""")


@pytest.mark.usefixtures("untold")
def test_a_namespace_without_acceptor(mesh: L7Mesh) -> None:
    """Who could not tell does not leave word that it told."""
    with open_tables(mesh) as tables:
        assert mesh.kernel.sandbox.python(UNKNOWN).strip() == str(errno.ECONNREFUSED)
        until(lambda: set(tables.acceptors()) == mesh.on_loop(lambda: set(known(mesh))))


UNKNOWN = textwrap.dedent("""
    import ctypes, socket, time
    time.sleep(0.5)  # when the relay has seen to what is new in the cgroup
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
    print(socket.socket().connect_ex(("127.96.0.1", 80)))
""")


def known(mesh: L7Mesh) -> list[int]:
    return [namespace["cookie"] for namespace in mesh.relay.status()["namespaces"]]


def test_what_nobody_was_there_to_hear(relays: Relays, client: Puppet) -> None:  # noqa: F811
    """Between two relays the ring is full: the next one finds the answer that was left to it, and whose it is."""
    tables = StreamTables(relays.mesh.kernel.build.maps_dir)
    before = tables.count_untold()
    relays.kill()
    with full_ring(relays.mesh.kernel.build.maps_dir):
        client.send(get_bytes(b"/trailer"))
        until(lambda: tables.count_untold() >= before + 1)
    tables.close()
    relays.start()
    assert client.receive(b"x: y\r\n\r\n").endswith(b"1\r\n!\r\n0\r\nx: y\r\n\r\n")
    assert client.ask(b"/next").endswith(b"/next")
    assert relays.status()["untold"] > before
