"""Segments that begin with bytes that came before: each byte reaches the client once, whoever carries it.

The kernel's own readers pass over such bytes; verdict programs are given them again, and have to.
"""

from __future__ import annotations

import json
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from kmesh.kernel.features import probe_features
from tests.kernel.conftest import open_kernel
from tests.kernel.test_streams import Carried
from tests.support.l7_mesh import L7Mesh
from tests.support.rewound import rewind
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
BODY = b"".join(b"%08d" % number for number in range(2000))
CLIENT = textwrap.dedent("""
    import http.client, json, sys, time
    out = []
    connection = http.client.HTTPConnection("127.96.0.1", 80, timeout=5)
    for path, headers in json.loads(sys.argv[1]):
        time.sleep(float(headers.pop("wait", 0)))
        connection.request("GET", path, headers=headers)
        out.append(connection.getresponse().read().decode())
    print(json.dumps(out))
""")
_ARRIVED_S = 0.05
"""Ample for bytes on their way over loopback to be acknowledged."""


def plain(body: bytes = BODY) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes = BODY) -> bytes:
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def send_in_two(sock: socket.socket, text: bytes, first: int, again: int) -> socket.socket:
    """`first` bytes, and then in one segment the last `again` of them and the rest."""
    sock.sendall(text[:first])
    time.sleep(_ARRIVED_S)
    sock = rewind(sock, again)
    sock.sendall(text[first - again :])
    return sock


def in_head(sock: socket.socket) -> socket.socket:
    return send_in_two(sock, plain(), 1000, 1000)


def in_body(sock: socket.socket) -> socket.socket:
    return send_in_two(sock, plain(), 9000, 5000)


def in_chunks(sock: socket.socket) -> socket.socket:
    return send_in_two(sock, chunked(), 9000, 5000)


def twice(sock: socket.socket) -> socket.socket:
    text = plain()
    sock = send_in_two(sock, text[:9000], 5000, 1)
    time.sleep(_ARRIVED_S)
    sock = rewind(sock, 4095)
    sock.sendall(text[9000 - 4095 :])
    return sock


def behind(sock: socket.socket) -> socket.socket:
    """An answer that begins with the end of the one before, which was BODY too."""
    sock = rewind(sock, 700)
    sock.sendall(plain()[-700:] + plain())
    return sock


def with_end(sock: socket.socket) -> socket.socket:
    """What comes again has nothing new behind it but the end of the stream."""
    sock.sendall(plain())
    time.sleep(_ARRIVED_S)
    sock = rewind(sock, 700)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    sock.sendall(plain()[-700:])
    sock.shutdown(socket.SHUT_WR)
    return sock


ANSWERS: dict[bytes, Callable[[socket.socket], socket.socket]] = {
    f"/{answer.__name__}".encode(): answer for answer in (in_head, in_body, in_chunks, twice, behind, with_end)
}


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(target=_serve, args=(listener.accept()[0],), daemon=True).start()


def _serve(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    is_first = True
    with suppress(OSError):
        while head := sock.recv(65536):
            path = head.split(b" ", 2)[1]
            if path == b"/stuck":
                sock.sendall(plain()[:9000])  # and nothing more
            elif path == b"/behind" and is_first:
                sock.sendall(plain())
            else:
                sock = ANSWERS[path](sock)
            is_first = False
    sock.close()


@pytest.fixture(scope="module")
def mesh() -> Iterator[L7Mesh]:
    with Sandbox() as sandbox, ExitStack() as stack:
        kernel = open_kernel(sandbox, probe_features())
        yield stack.enter_context(L7Mesh(kernel, ROUTES, {"a": stack.enter_context(server())}, pool_size=2))


def ask(mesh: L7Mesh, *asks: tuple[str, dict[str, str]]) -> list[str]:
    return json.loads(mesh.kernel.sandbox.python(CLIENT, json.dumps(asks)))


@pytest.mark.parametrize("path", ["/in_head", "/in_body", "/in_chunks", "/twice"])
def test_answers_of_the_kernel(mesh: L7Mesh, path: str) -> None:
    with Carried(mesh) as carried:
        assert ask(mesh, (path, {}), (path, {})) == [BODY.decode()] * 2
    assert (carried.kernel, carried.relay, carried.answers) == (2, 0, 0)


@pytest.mark.parametrize("path", ["/in_head", "/in_body", "/in_chunks", "/twice"])
def test_answers_of_the_relay(mesh: L7Mesh, path: str) -> None:
    with Carried(mesh) as carried:
        assert ask(mesh, (path, {"Connection": "close"})) == [BODY.decode()]
    assert (carried.kernel, carried.relay, carried.answers) == (0, 0, 1)


def test_the_end_of_one_answer_comes_again_before_the_next(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        assert ask(mesh, ("/behind", {}), ("/behind", {})) == [BODY.decode()] * 2
    assert carried.kernel == 2


def test_the_end_of_one_clients_answer_comes_again_before_anothers(mesh: L7Mesh) -> None:
    """The connection went back to its pool in between, where there may be three more."""
    with Carried(mesh) as carried:
        for _ in range(8):
            assert ask(mesh, ("/behind", {})) == [BODY.decode()]
            mesh.settle()
    assert carried.kernel == 8
    assert carried.events["RETURNED"] == 8


def test_the_end_of_the_stream_comes_with_bytes_that_came_before(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        assert ask(mesh, ("/with_end", {}), ("/in_body", {"wait": "0.3"})) == [BODY.decode()] * 2
    assert carried.kernel == 2
    assert not carried.events["BREACH"]


def test_bytes_from_the_relay(mesh: L7Mesh) -> None:
    """They come again in the client's own connection, whose other end is taken from the relay."""
    sent, again = 9000, 5000

    def take_over() -> socket.socket | None:
        channel = next((client.channel for client in mesh.relay.clients.values()), None)
        if channel is None or channel.given < sent:
            return None
        return socket.socket(fileno=channel.sock.detach())

    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.extend(ask(mesh, ("/stuck", {"Connection": "close"}))))
    asking.start()
    while not (taken := mesh.on_loop(take_over)):
        time.sleep(0.01)
    time.sleep(_ARRIVED_S)
    with rewind(taken, again) as sock:
        sock.sendall(plain()[sent - again :])
        asking.join(timeout=10)
    assert answers == [BODY.decode()]
