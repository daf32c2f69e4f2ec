"""Upstreams that answer badly, too much, too early or never: no one receives what was not meant for it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.http_hostile_server import BAD_ANSWERS, hostile_server
from tests.support.http_mesh import HttpMesh, http_mesh
from tests.support.odd_server import odd_server
from tests.support.sandbox import Sandbox

PRELUDE = textwrap.dedent("""
    import json, select, socket, sys, threading, time
    HOST, PORT = sys.argv[1], int(sys.argv[2])
    def connect():
        s = socket.create_connection((HOST, PORT), timeout=5)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s
    def ask(s, path, idle_s):
        '''All that comes until nothing does.'''
        got = b""
        try:
            s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
            while select.select([s], [], [], idle_s)[0]:
                part = s.recv(65536)
                if not part:
                    break
                got += part
        except OSError:
            pass
        return got
""")
OK_B = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"
POOL = 100
"""More than are taken: a connection that is dialled for a request at once cannot be seen to speak first."""
EVIL_BY_RIGHT = {"interim-with-body"}
"""An interim answer has no body: what follows is the answer."""


@pytest.fixture(scope="module")
def mesh() -> Iterator[HttpMesh]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        clusters = {"b": stack.enter_context(odd_server("b")), "h": stack.enter_context(hostile_server())}
        clusters["e"] = stack.enter_context(hostile_server(speaks_first=True))
        yield stack.enter_context(http_mesh(sandbox, clusters, pool_size=POOL))


def run(mesh: HttpMesh, code: str, *arguments: str) -> Any:
    host, _, port = str(mesh.vip).rpartition(":")
    return json.loads(mesh.sandbox.python(PRELUDE + textwrap.dedent(code), host, port, *arguments))


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answers_stay_where_they_belong(mesh: HttpMesh, name: str) -> None:
    """The same connection's next answer is its own, or there is none; another client's are as always."""
    first, second, others = run(
        mesh,
        """
        s, other, others = connect(), connect(), []
        def work():
            for _ in range(10):
                other.sendall(b"GET /b/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                others.append(other.recv(len(sys.argv[4]), socket.MSG_WAITALL).decode())
        thread = threading.Thread(target=work)
        thread.start()
        first = ask(s, "/h/" + sys.argv[3], 0.12)
        second = ask(s, "/b/x", 0.12)
        thread.join()
        json.dump([first.decode("latin-1"), second.decode("latin-1"), others], sys.stdout)
        """,
        name,
        OK_B,
    )
    assert "".join(others) == OK_B * 10
    assert second in (OK_B, "") or second.startswith("HTTP/1.1 50"), first
    assert ("evil" in first) <= (name in EVIL_BY_RIGHT), first


def test_answers_that_no_one_asked_for(mesh: HttpMesh) -> None:
    """An upstream that speaks first is no use, and what it says reaches no one, whoever carries the answer."""
    answers = run(
        mesh,
        """
        got = []
        for number in range(30):
            s = connect()
            for path in ("/e/plain", "/e/chunked", "/b/x"):
                got.append([path, ask(s, path, 0.03).decode("latin-1")])
        json.dump(got, sys.stdout)
        """,
    )
    assert not [answer for answer in answers if "evil" in answer[1]]
    assert {text for path, text in answers if path == "/b/x"} <= {OK_B, ""}
    assert [text for path, text in answers if path == "/e/plain" and text.endswith("\r\n\r\nh")], "some are good"
