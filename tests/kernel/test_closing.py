"""Requests that say Connection: close: the kernel carries the answer, and the end comes behind all of it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kmesh.kernel.features import probe_features
from tests.kernel.conftest import open_kernel
from tests.kernel.test_streams import Carried
from tests.support.l7_mesh import L7Mesh
from tests.support.raw_server import Script, raw_server
from tests.support.sandbox import Sandbox

ROUTES = {
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a", "timeout": "0s"}}],
        }
    ]
}
BODY = b"".join(b"%08d" % number for number in range(100_000))
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
CHUNKS = b"".join(b"1000\r\n%s\r\n" % BODY[at : at + 4096] for at in range(0, 4096 * 20, 4096)) + b"0\r\n\r\n"
SCRIPTS: dict[str, Script] = {
    "says": (PLAIN + b"Connection: keep-alive\r\n\r\nok",),
    "Says": (PLAIN + b"connection: Keep-Alive\r\n\r\nok",),
    "nothing": (PLAIN + b"\r\nok",),
    "close": (PLAIN + b"Connection: close\r\n\r\nok", "fin", "rest"),
    "other": (PLAIN + b"Connection: keep-alive, x\r\n\r\nok",),
    "interim": (b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01, PLAIN + b"Connection: keep-alive\r\n\r\nok"),
    "chunks": (CHUNKED + b"Connection: keep-alive\r\n\r\n" + CHUNKS,),
    "long": (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,),
    "empty": (b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n",),
}
CLIENT = textwrap.dedent("""
    import json, socket, sys, time
    request, pause, count = json.loads(sys.argv[1])
    out = []
    for _ in range(count):
        with socket.create_connection(("127.96.0.1", 80), timeout=5) as sock:
            sock.sendall(request.encode())
            time.sleep(pause)
            received = b""
            while piece := sock.recv(1 << 16):
                received += piece
        out.append(received.decode())
    print(json.dumps(out))
""")


@pytest.fixture(scope="module")
def mesh() -> Iterator[L7Mesh]:
    with Sandbox() as sandbox, ExitStack() as stack:
        kernel = open_kernel(sandbox, probe_features())
        server = stack.enter_context(raw_server(SCRIPTS))
        yield stack.enter_context(L7Mesh(kernel, ROUTES, {"a": server.address}))


def ask(mesh: L7Mesh, request: str, pause: float = 0, count: int = 1) -> list[bytes]:
    """What came until the end of the stream, of so many connections one after the other."""
    out = mesh.kernel.sandbox.python(CLIENT, json.dumps((request, pause, count)))
    return [text.encode() for text in json.loads(out)]


def close_request(script: str) -> str:
    return f"GET /{script} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def expected(script: str) -> bytes:
    answer = b"".join(part for part in SCRIPTS[script] if isinstance(part, bytes))
    for kept in (b"keep-alive\r\n", b"Keep-Alive\r\n"):
        answer = answer.replace(kept, b"close     \r\n")
    return answer


@pytest.mark.parametrize("script", ["says", "Says", "close", "chunks", "long", "empty"])
@pytest.mark.parametrize("pause", [0, 0.1], ids=["at once", "late"])
def test_the_kernel_carries_what_can_say_it(mesh: L7Mesh, script: str, pause: float) -> None:
    with Carried(mesh) as carried:
        assert ask(mesh, close_request(script), pause) == [expected(script)]
    assert (carried.kernel, carried.relay, carried.answers) == (1, 0, 0)
    assert carried.events["CLOSING"] == 1


@pytest.mark.parametrize("script", ["nothing", "other", "interim"])
def test_the_relay_carries_what_cannot(mesh: L7Mesh, script: str) -> None:
    """There is no room in the head for the word, or more than one answer."""
    with Carried(mesh) as carried:
        (got,) = ask(mesh, close_request(script))
    assert got.endswith(b"\r\n\r\nok")
    assert b"connection: close\r\n" in got.lower()
    assert (carried.kernel, carried.answers) == (0, 1)


def test_nothing_is_overtaken_by_the_end(mesh: L7Mesh) -> None:
    got = ask(mesh, close_request("long"), 0, 300)
    assert [len(answer) for answer in got if answer != expected("long")] == []


def test_nothing_behind_it_is_answered(mesh: L7Mesh) -> None:
    behind = "GET /says HTTP/1.1\r\nHost: x\r\n\r\n"
    with Carried(mesh) as carried:
        assert ask(mesh, close_request("says") + behind, 0.05)[0].count(b"HTTP/1.1") == 1  # one message: the relay's
    assert carried.kernel == 0


def test_a_request_that_comes_later_is_not_answered(mesh: L7Mesh) -> None:
    code = textwrap.dedent("""
        import json, socket, sys
        with socket.create_connection(("127.96.0.1", 80), timeout=5) as sock:
            received = b""
            for request in json.loads(sys.argv[1]):
                sock.sendall(request.encode())
                received += sock.recv(65536)
            while piece := sock.recv(65536):
                received += piece
        print(json.dumps(received.decode()))
    """)
    requests = [close_request("says"), "GET /says HTTP/1.1\r\nHost: x\r\n\r\n"]
    with Carried(mesh) as carried:
        got = json.loads(mesh.kernel.sandbox.python(code, json.dumps(requests)))
    assert got.encode() == expected("says")
    assert (carried.kernel, carried.relay, carried.answers) == (1, 0, 0)


def test_connections_are_free_for_others_again(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        ask(mesh, close_request("says"), 0, 50)
    assert carried.kernel == 50
    assert carried.events["RETURNED"] == 50


def test_clients_that_close_first_keep_no_port(mesh: L7Mesh) -> None:
    """As with a server that closes first: TIME_WAIT is not theirs."""
    code = textwrap.dedent("""
        import socket, sys, time
        for _ in range(20):
            with socket.create_connection(("127.96.0.1", 80), timeout=5) as sock:
                sock.sendall(sys.argv[1].encode())
                assert sock.recv(65536).endswith(b"ok")
        time.sleep(0.1)
        ports = {int(port) for port in sys.argv[2:]}
        rows = [line.split() for line in open("/proc/net/tcp")][1:]
        print(sum(row[3] == "06" and int(row[2].split(":")[1], 16) in ports for row in rows))
    """)
    ports = [at.rsplit(":", 1)[1] for place in mesh.status()["namespaces"] for at in place["acceptors"]]
    assert mesh.kernel.sandbox.python(code, close_request("says"), *ports).strip() == "0"
