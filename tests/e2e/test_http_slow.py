"""Clients that are slow, silent, or send heads without end: others do not notice, and what they hold is bounded."""

from __future__ import annotations

import contextlib
import json
import socket
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kmesh.records.constants import LIMITS
from tests.support.http_mesh import HttpMesh, carried, http_mesh
from tests.support.odd_server import odd_server
from tests.support.sandbox import Sandbox

PRELUDE = textwrap.dedent("""
    import json, select, socket, sys, time
    HOST, PORT = sys.argv[1], int(sys.argv[2])
    HEAD = b"GET /a/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\na"
    def connect():
        s = socket.create_connection((HOST, PORT), timeout=10)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s
    def read(s, count=len(ANSWER)):
        out = b""
        while len(out) < count:
            part = s.recv(count - len(out))
            if not part:
                break
            out += part
        return out
""")
REQUESTS = 500
PROMPT_S = 0.25
"""For one exchange of a client beside slow ones. Alone it takes 50 us; the machine has two processors for all."""
BIG_BYTES = 400_000_000
PART_BYTES = 100_000
BOUND_BYTES = 64_000_000
"""That servers may send of an answer that no one reads: what the buffers of four sockets hold."""


@pytest.fixture(scope="module")
def big() -> Iterator[BigServer]:
    with BigServer() as server:
        yield server


@pytest.fixture(scope="module")
def mesh(big: BigServer) -> Iterator[HttpMesh]:
    with Sandbox() as sandbox, ExitStack() as stack:
        clusters = {"a": stack.enter_context(odd_server("a")), "big": big.address}
        yield stack.enter_context(http_mesh(sandbox, clusters))


class BigServer:
    """Context manager: answers with BIG_BYTES; `sent` counts those that it could send."""

    def __init__(self) -> None:
        self.sent = 0

    def __enter__(self) -> BigServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while sock.recv(65536):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG_BYTES)
                for _ in range(BIG_BYTES // PART_BYTES):
                    sock.sendall(bytes(PART_BYTES))
                    self.sent += PART_BYTES


def run(mesh: HttpMesh, code: str, *arguments: str) -> Any:
    host, _, port = str(mesh.vip).rpartition(":")
    out = mesh.sandbox.python(PRELUDE + textwrap.dedent(code), host, port, *arguments)
    return json.loads(out) if out else None


SLOW = {
    "heads": """
        sockets = [connect() for _ in range(100)]
        for at in range(len(HEAD)):
            for s in sockets:
                s.send(HEAD[at:at + 1])
        json.dump(sum(read(s) == ANSWER for s in sockets), sys.stdout)
    """,
    "bodies": """
        sockets = [connect() for _ in range(100)]
        for s in sockets:
            s.send(b"POST /a/x HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 30\\r\\n\\r\\n")
        for _ in range(30):
            for s in sockets:
                s.send(b"b")
        want = ANSWER.replace(b"1\\r\\n\\r\\na", b"31\\r\\n\\r\\na" + b"b" * 30)
        json.dump(sum(read(s, len(want)) == want for s in sockets), sys.stdout)
    """,
    "chunks": """
        sockets = [connect() for _ in range(100)]
        for s in sockets:
            s.send(b"POST /a/x HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
        for _ in range(5):
            for part in (b"1", b"\\r", b"\\n", b"b", b"\\r", b"\\n"):
                for s in sockets:
                    s.send(part)
        for s in sockets:
            s.send(b"0\\r\\n\\r\\n")
        want = ANSWER.replace(b"1\\r\\n\\r\\na", b"6\\r\\n\\r\\na" + b"b" * 5)
        json.dump(sum(read(s, len(want)) == want for s in sockets), sys.stdout)
    """,
    "silence": """
        sockets = [connect() for _ in range(100)]
        time.sleep(0.5)
        for s in sockets:
            s.send(HEAD)
        json.dump(sum(read(s) == ANSWER for s in sockets), sys.stdout)
    """,
    "reading": """
        sockets = [connect() for _ in range(100)]
        for s in sockets:
            s.send(HEAD)
        time.sleep(0.5)
        got = [b"".join(s.recv(1) for _ in ANSWER) for s in sockets]
        json.dump(got.count(ANSWER), sys.stdout)
    """,
}


@pytest.mark.parametrize("code", SLOW)
def test_slow_clients_are_served_and_hold_up_no_one(mesh: HttpMesh, code: str) -> None:
    """A hundred of them, each in the end; and one that is quick, whose every exchange is the kernel's."""
    found: list[Any] = []
    slow = threading.Thread(target=lambda: found.append(run(mesh, SLOW[code])))
    slow.start()
    longest = run(
        mesh,
        """
        s, longest = connect(), 0
        for _ in range(int(sys.argv[3])):
            begun = time.monotonic()
            s.sendall(HEAD)
            assert read(s) == ANSWER
            longest = max(longest, time.monotonic() - begun)
            time.sleep(0.001)
        json.dump(longest, sys.stdout)
        """,
        str(REQUESTS),
    )
    slow.join(timeout=30)
    assert found == [100]
    assert longest < PROMPT_S


BOMBS = {
    "one line": ("X: " + "a" * LIMITS["HEAD_BYTES"],),
    "a long line": ("X: " + "a" * 50_000,),
    "a long name": ("X" * 50_000 + ": a",),
    "many lines": ("X: a",) * 900,
    "as many as routes look at": tuple(f"x-to: {number}" for number in range(LIMITS["REQUEST_FIELDS"] + 1)),
    "tabs": ("X: a" + "\tb" * 3000,),
    "a long cookie": ("Cookie: " + "; ".join(f"n{number}=v" for number in range(3000)),),
}


@pytest.mark.parametrize("name", BOMBS)
def test_long_heads_are_the_relays(mesh: HttpMesh, name: str) -> None:
    """Whatever it says, the connection or another goes on."""
    head = "GET /a/x HTTP/1.1\r\nHost: x\r\n" + "".join(line + "\r\n" for line in BOMBS[name]) + "\r\n"
    file = mesh.sandbox.folder / "head"
    file.write_text(head)
    with carried(mesh) as exchanges:
        first = run(
            mesh,
            """
            s = connect()
            s.sendall(open(sys.argv[3], "rb").read())
            first = s.recv(65536).split(b"\\r\\n")[0].decode()
            other = connect()
            other.sendall(HEAD)
            assert read(other) == ANSWER
            json.dump(first, sys.stdout)
            """,
            str(file),
        )
    assert first.split(" ")[1] == ("431" if name == "many lines" else "200")
    assert exchanges.found.kernel == 1, "the other's"


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_heads_at_the_bound(mesh: HttpMesh, over: int) -> None:
    with carried(mesh, 1) as exchanges:
        status = run(
            mesh,
            """
            s, length = connect(), int(sys.argv[3])
            head = HEAD[:-2] + b"X: " + b"a" * (length - len(HEAD) - len("X: \\r\\n")) + b"\\r\\n\\r\\n"
            assert len(head) == length
            s.sendall(head)
            json.dump(read(s).decode().split(" ")[1], sys.stdout)
            """,
            str(LIMITS["HEAD_BYTES"] + over),
        )
    assert exchanges.found.kernel == (over <= 0)
    assert status == "200" or over > 0


def test_an_answer_that_no_one_reads_is_bounded(mesh: HttpMesh, big: BigServer) -> None:
    code = """
        s = connect()
        s.sendall(HEAD.replace(b"/a/", b"/big/"))
        time.sleep(1)
        s.close()
    """
    run(mesh, code)
    assert 0 < big.sent < BOUND_BYTES


def test_answers_that_no_one_reads_are_bounded(mesh: HttpMesh) -> None:
    """Each is one that the kernel carries; a client that asks for more and more, and reads none, has few of them."""
    body, count = LIMITS["ANSWER_BODY_BYTES"] // 16, 300
    code = """
        s, body, count = connect(), b"b" * int(sys.argv[3]), int(sys.argv[4])
        request = b"POST /a/x HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
        want = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\na" % (len(body) + 1) + body
        s.settimeout(0.2)
        asked = 0
        try:
            while asked < count:
                s.send(request)
                asked += 1
                time.sleep(0.002)
        except TimeoutError:
            pass
        s.settimeout(5)
        assert read(s, asked * len(want)) == want * asked
        s.sendall(HEAD)
        assert read(s) == ANSWER
    """
    with carried(mesh) as exchanges:
        run(mesh, code, str(body), str(count))
    assert exchanges.found.kernel * body < 4 * LIMITS["UNREAD_BYTES"]
