"""Clients that shut down their sending side and read until the end: it comes behind all that the kernel gave them."""

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
CHUNKS = b"".join(b"1000\r\n%s\r\n" % BODY[at : at + 4096] for at in range(0, 4096 * 20, 4096)) + b"0\r\n\r\n"
SCRIPTS: dict[str, Script] = {
    "short": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,),
    "long": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,),
}
CLIENT = textwrap.dedent("""
    import json, socket, sys, time
    request, pause, count = json.loads(sys.argv[1])
    out = []
    for _ in range(count):
        with socket.create_connection(("127.96.0.1", 80), timeout=5) as sock:
            sock.sendall(request.encode())
            sock.shutdown(socket.SHUT_WR)
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


def ask(mesh: L7Mesh, script: str, pause: float = 0, count: int = 1) -> list[bytes]:
    """What came until the end of the stream, of so many connections one after the other."""
    request = f"GET /{script} HTTP/1.1\r\nHost: x\r\n\r\n"
    out = mesh.kernel.sandbox.python(CLIENT, json.dumps((request, pause, count)))
    return [text.encode() for text in json.loads(out)]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("pause", [0, 0.1], ids=["at once", "late"])
def test_the_kernel_answers_whole(mesh: L7Mesh, script: str, pause: float) -> None:
    with Carried(mesh) as carried:
        assert ask(mesh, script, pause) == [SCRIPTS[script][0]]
    assert (carried.kernel, carried.relay, carried.answers) == (1, 0, 0)


def test_nothing_is_overtaken_by_the_end(mesh: L7Mesh) -> None:
    got = ask(mesh, "long", 0, 100)
    assert [len(answer) for answer in got if answer != SCRIPTS["long"][0]] == []
