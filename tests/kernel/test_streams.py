"""Requests routed one by one in the real kernel, with the relay at its other end."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kmesh.kernel.features import probe_features
from tests.kernel.conftest import open_kernel
from tests.support.l7_mesh import L7Mesh
from tests.support.odd_server import odd_server
from tests.support.sandbox import Sandbox

NO_TIMEOUT = {"timeout": "0s"}
ROUTES = {
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*"],
            "routes": [
                {"match": {"prefix": "/a/"}, "route": {"cluster": "a", **NO_TIMEOUT}},
                {
                    "match": {"prefix": "/h/", "headers": [{"name": "x-who", "string_match": {"exact": "b"}}]},
                    "route": {"cluster": "b", **NO_TIMEOUT},
                },
                {"match": {"prefix": "/none/"}, "route": {"cluster": "nowhere", **NO_TIMEOUT}},
                {
                    "match": {"prefix": "/split/"},
                    "route": {
                        "weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]},
                        **NO_TIMEOUT,
                    },
                },
            ],
        }
    ]
}
CLIENT = textwrap.dedent("""
    import http.client, json, sys
    out = []
    connection = http.client.HTTPConnection("127.96.0.1", 80, timeout=3)
    for method, path, headers, body, count in json.loads(sys.argv[1]):
        for _ in range(count):
            connection.request(method, path, body and body.encode(), headers)
            answer = connection.getresponse()
            out.append([answer.status, answer.read().decode()])
    print(json.dumps(out))
""")
RAW = textwrap.dedent("""
    import json, socket, sys, time
    out = []
    s = socket.create_connection(("127.96.0.1", 80))
    s.settimeout(0.3)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in json.loads(sys.argv[1]):
        s.sendall(part.encode())
        time.sleep(0.002)
    try:
        while received := s.recv(65536):
            out.append(received.decode())
        out.append("<end>")
    except TimeoutError:
        pass
    except OSError as error:
        out.append(f"<{error.strerror}>")
    print(json.dumps("".join(out)))
""")


@pytest.fixture(scope="module")
def mesh() -> Iterator[L7Mesh]:
    with Sandbox() as sandbox, ExitStack() as stack:
        kernel = open_kernel(sandbox, probe_features())
        endpoints = {name: stack.enter_context(odd_server(name)) for name in "ab"}
        yield stack.enter_context(L7Mesh(kernel, ROUTES, endpoints))


Ask = tuple[str, str, dict[str, str], str, int]


def get(path: str, count: int = 1, method: str = "GET", body: str = "", **headers: str) -> Ask:
    return method, path, {name.replace("_", "-"): value for name, value in headers.items()}, body, count


def ask(mesh: L7Mesh, *asks: Ask) -> list[list]:
    """[status, body] of each request, all on one connection."""
    return json.loads(mesh.kernel.sandbox.python(CLIENT, json.dumps(asks)))


def send(mesh: L7Mesh, *parts: str) -> str:
    """All that comes back for some bytes, written in these parts."""
    return json.loads(mesh.kernel.sandbox.python(RAW, json.dumps(parts)))


class Carried:
    """Context manager: what the kernel and the relay did meanwhile."""

    def __init__(self, mesh: L7Mesh) -> None:
        self._mesh = mesh
        self._before = mesh.count()

    def __enter__(self) -> Carried:
        return self

    def __exit__(self, *_: object) -> None:
        now = self._mesh.count()
        self.kernel = now.kernel - self._before.kernel
        self.relay = now.relay - self._before.relay
        self.answers = now.answers - self._before.answers


def test_each_request_of_a_connection_goes_its_own_way(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        got = ask(mesh, get("/a/x"), get("/h/x", x_who="b"), get("/a/y"), get("/h/x", x_who="b"))
    assert got == [[200, "a"], [200, "b"], [200, "a"], [200, "b"]]
    assert (carried.kernel, carried.relay) == (4, 0)


def test_weighted_clusters_split_per_request(mesh: L7Mesh) -> None:
    count = 10_000
    with Carried(mesh) as carried:
        got = Counter(body for _, body in ask(mesh, get("/split/x", count)))
    assert abs(got["a"] - count / 4) <= 3 * math.sqrt(count * 3 / 16), got
    assert (carried.kernel, carried.relay) == (count, 0)


def test_the_relay_answers_and_gives_the_connection_back(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        got = ask(mesh, get("/a/x"), get("/h/x"), get("/a/x"), get("/none/x"), get("/a/x"))
    assert [status for status, _ in got] == [200, 404, 200, 503, 200]
    assert (carried.kernel, carried.relay) == (3, 2)


@pytest.mark.parametrize(
    ("path", "method", "body", "want", "carrier"),
    [
        ("/a/x", "POST", "hello", [200, "ahello"], "kernel"),
        ("/a/x", "PUT", "x" * 65536, [200, "a" + "x" * 65536], "kernel"),
        ("/a/x", "PUT", "x" * 65537, [200, "a" + "x" * 65537], "relay"),
        ("/a/x", "HEAD", "", [200, ""], "kernel"),
        ("/a/204", "GET", "", [204, ""], "kernel"),
        ("/a/304", "GET", "", [304, ""], "kernel"),
        ("/a/interim", "GET", "", [200, "a"], "kernel"),
        ("/a/parts", "POST", "hello", [200, "ahello"], "kernel"),
        ("/a/chunked", "GET", "", [200, "a"], "answer"),
        ("/a/split", "GET", "", [200, "a"], "answer"),
        ("/a/big", "GET", "", [200, "\0" * 3000000], "answer"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_bodies(mesh: L7Mesh, path: str, method: str, body: str, want: list, carrier: str) -> None:
    """Each twice, and a plain one behind it: what the relay carried must not keep the connection."""
    with Carried(mesh) as carried:
        got = ask(mesh, get(path, 2, method, body), get("/h/x", x_who="b"))
    assert got == [want, want, [200, "b"]]
    counts = {"kernel": (3, 0, 0), "relay": (1, 2, 0), "answer": (1, 0, 2)}
    assert (carried.kernel, carried.relay, carried.answers) == counts[carrier]


HEAD = "GET /a/x HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
ANSWER_B = ANSWER[:-1] + "b"
LOST = "upstream connect error or disconnect/reset before headers. reset reason: connection termination"


def test_heads_split_at_each_byte(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        parts = [part for at in range(1, len(HEAD)) for part in (HEAD[:at], HEAD[at:])]
        got = send(mesh, *parts)
    assert got == ANSWER * (len(HEAD) - 1)
    assert carried.kernel + carried.relay == len(HEAD) - 1


@pytest.mark.parametrize("count", [1, 10])
def test_pipelined_requests_are_answered_in_order(mesh: L7Mesh, count: int) -> None:
    other = "GET /h/x HTTP/1.1\r\nHost: x\r\nx-who: b\r\n\r\n"
    assert send(mesh, (other + HEAD) * count) == (ANSWER_B + ANSWER) * count


def test_pipelined_in_separate_sends(mesh: L7Mesh) -> None:
    other = "GET /h/slow HTTP/1.1\r\nHost: x\r\nx-who: b\r\n\r\n"
    assert send(mesh, other, HEAD, HEAD) == ANSWER_B + ANSWER * 2


def test_a_body_in_many_sends(mesh: L7Mesh) -> None:
    head = "POST /a/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    with Carried(mesh) as carried:
        got = send(mesh, head, *"0123456789", HEAD)
    assert got == "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\na0123456789" + ANSWER
    assert carried.kernel == 2


def test_chunked_request(mesh: L7Mesh) -> None:
    head = "POST /a/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    got = send(mesh, head, "3\r\nabc\r\n", "0\r\n\r\n", HEAD)
    assert got == "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\naabc" + ANSWER


def test_an_answer_that_ends_with_the_connection(mesh: L7Mesh) -> None:
    assert send(mesh, "GET /a/close HTTP/1.1\r\nHost: x\r\n\r\n") == "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\na<end>"


def test_an_upstream_that_closes_behind_its_answer(mesh: L7Mesh) -> None:
    got = ask(mesh, *[get("/a/last"), get("/a/x")] * 20)
    assert set(map(tuple, got)) <= {(200, "a"), (503, LOST)}
    assert got.count([200, "a"]) >= 30


def test_an_upstream_that_closes_without_an_answer(mesh: L7Mesh) -> None:
    assert ask(mesh, get("/a/die"), get("/a/x")) == [[503, LOST], [200, "a"]]


@pytest.mark.parametrize("how", ["extra", "late"])
def test_bytes_behind_an_answer_reach_no_one(mesh: L7Mesh, how: str) -> None:
    got = send(mesh, f"GET /a/{how} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "evil" not in got


READS = textwrap.dedent("""
    import fcntl, json, os, select, socket, struct, tempfile, termios, time
    REQUEST = b"GET /a/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    RELAYED = REQUEST.replace(b"/a/", b"/z/")
    def connect(host="127.96.0.1", family=socket.AF_INET):
        s = socket.socket(family)
        s.settimeout(2)
        s.connect((host, 80))
        return s
    def count(s):
        return struct.unpack("i", fcntl.ioctl(s, termios.FIONREAD, bytes(4)))[0]
    out = {}
    s = connect()
    for name, request in (("kernel", REQUEST), ("relay", RELAYED)):
        s.sendall(request)
        select.select([s], [], [], 2)
        time.sleep(0.02)
        ready = count(s)
        peeked = len(s.recv(10, socket.MSG_PEEK))
        out[name] = [ready, peeked, len(s.recv(ready, socket.MSG_WAITALL)), count(s)]
    edge = select.epoll()
    edge.register(s, select.EPOLLIN | select.EPOLLET)
    s.sendall(REQUEST)
    out["edge"] = [len(edge.poll(1)), len(s.recv(1000)), len(edge.poll(0.02))]
    s.sendall(REQUEST.replace(b"/x", b"/slow"))
    s.shutdown(socket.SHUT_WR)
    out["half close"] = [len(s.recv(1000)), len(s.recv(10))]
    forked = connect()
    forked.sendall(REQUEST)
    if os.fork() == 0:
        forked.recv(1000)
        forked.sendall(REQUEST)
        os._exit(0)
    os.wait()
    out["fork"] = [len(forked.recv(1000))]
    mapped = connect("::ffff:127.96.0.1", socket.AF_INET6)
    mapped.sendall(REQUEST)
    out["mapped"] = [len(mapped.recv(1000)), *mapped.getpeername()[:2]]
    with tempfile.TemporaryFile() as file:
        file.write(REQUEST)
        file.flush()
        os.sendfile(forked.fileno(), file.fileno(), 0, len(REQUEST))
        out["sendfile"] = [len(forked.recv(1000))]
    print(json.dumps(out))
""")


def test_how_clients_read(mesh: L7Mesh) -> None:
    got = json.loads(mesh.kernel.sandbox.python(READS))
    assert got == {
        "kernel": [39, 10, 39, 0],
        "relay": [97, 10, 97, 0],
        "edge": [1, 39, 0],
        "half close": [39, 0],
        "fork": [39],
        "mapped": [39, "::ffff:127.96.0.1", 80],
        "sendfile": [39],
    }
