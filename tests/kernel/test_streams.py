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
        mesh.settle()
        self._before, self._events = mesh.count(), self._count_events()

    def __enter__(self) -> Carried:
        return self

    def __exit__(self, *_: object) -> None:
        self._mesh.settle()
        self.events = self._count_events() - self._events
        now = self._mesh.count()
        self.kernel = now.kernel - self._before.kernel
        self.relay = now.relay - self._before.relay
        self.answers = now.answers - self._before.answers

    def _count_events(self) -> Counter[str]:
        return Counter(self._mesh.status()["events"])


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
        ("/a/chunked", "GET", "", [200, "a"], "kernel"),
        ("/a/chunked", "HEAD", "", [200, ""], "kernel"),
        ("/a/bytes", "POST", "hello hello hello!", [200, "ahello hello hello!!"], "kernel"),
        ("/a/chunks", "GET", "", [200, "".join(f"{number:064}" for number in range(400))], "kernel"),
        ("/a/tiny", "GET", "", [200, "!" * 20000], "odd"),
        ("/a/long", "GET", "", [200, "\0" * 3000300], "rest"),
        ("/a/extension", "GET", "", [200, "!!"], "rest"),
        ("/a/trailer", "GET", "", [200, "!"], "rest"),
        ("/a/excess", "GET", "", [200, "!"], "rest"),
        ("/a/ending", "GET", "", [200, "a"], "kernel"),
        ("/a/ending-chunks", "GET", "", [200, "a"], "kernel"),
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
    counts = {"kernel": (3, 0, 0), "relay": (1, 2, 0), "answer": (1, 0, 2), "rest": (1, 0, 2)}
    counts["odd"] = counts["rest"]
    assert (carried.kernel, carried.relay, carried.answers) == counts[carrier]
    assert carried.events["ANSWER_REST"] == (2 if carrier == "rest" else 0) or carrier == "odd"


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
    got = send(mesh, HEAD.replace("/x", "/close"))
    assert got == "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\na<end>"


def test_an_upstream_that_closes_behind_its_answer(mesh: L7Mesh) -> None:
    got = ask(mesh, *[get("/a/last"), get("/a/x")] * 20)
    assert set(map(tuple, got)) <= {(200, "a"), (503, LOST)}
    assert got[::2].count([200, "a"]) >= 15  # the other requests race with the end that follows


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


def test_events_come_when_they_are_sent(mesh: L7Mesh) -> None:
    """Chunks of a stream without an end in sight; the server sends one each 100 ms."""
    code = (
        "import http.client, time; c = http.client.HTTPConnection('127.96.0.1', 80, timeout=3); c.request('GET', "
        "'/a/events'); a = c.getresponse(); t = time.monotonic(); "
        "print([(a.readline(), time.monotonic() - t)[1] for _ in range(3)])"
    )
    first, second, third = json.loads(mesh.kernel.sandbox.python(code))
    assert first < 0.08 < second < 0.19 < third


def test_a_client_that_closes_leaves_its_connection_to_the_next(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        for path in ("/a/x", "/a/chunked", "/a/204") * 5:
            ask(mesh, get(path))
    assert carried.kernel == carried.events["TAKEN"] == carried.events["RETURNED"] == 15


def test_half_closed_is_closed_enough(mesh: L7Mesh) -> None:
    code = RAW.replace("try:", "time.sleep(0.02)\ns.shutdown(socket.SHUT_WR)\ntry:", 1)
    with Carried(mesh) as carried:
        assert json.loads(mesh.kernel.sandbox.python(code, json.dumps([HEAD]))) == ANSWER + "<end>"
    assert (carried.kernel, carried.events["RETURNED"]) == (1, 1)


LEAVES = textwrap.dedent("""
    import json, socket, sys
    s = socket.create_connection(("127.96.0.1", 80))
    s.sendall(sys.argv[1].encode())
    if sys.argv[2] == "answered":
        s.recv(65536)
    if sys.argv[2] == "reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
""")


@pytest.mark.parametrize(
    ("path", "body", "when"),
    [("/a/slow", "", "at once"), ("/a/slow", "", "reset"), ("/a/early", "Content-Length: 10\r\n", "answered")],
    ids=["in flight", "reset in flight", "request unfinished"],
)
def test_no_one_gets_a_connection_that_is_not_done(mesh: L7Mesh, path: str, body: str, when: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n{body}\r\n"
    with Carried(mesh) as carried:
        mesh.kernel.sandbox.python(LEAVES, head, when)
    assert (carried.events["TAKEN"], carried.events["RETURNED"]) == (1, 0)
    assert [ask(mesh, get("/a/x")) for _ in range(8)] == [[[200, "a"]]] * 8


def test_late_bytes_on_a_returned_connection_reach_no_one(mesh: L7Mesh) -> None:
    with Carried(mesh) as carried:
        mesh.kernel.sandbox.python(LEAVES, HEAD.replace("/x", "/late"), "answered")
        assert [ask(mesh, get("/a/x")) for _ in range(8)] == [[[200, "a"]]] * 8
    assert carried.events["RETURNED"] >= 1
    assert carried.events["BREACH"] == 1


def test_a_connection_that_ends_behind_its_return_is_passed_over(mesh: L7Mesh) -> None:
    ask(mesh, get("/a/last"))
    assert [ask(mesh, get("/a/x")) for _ in range(8)] == [[[200, "a"]]] * 8


def test_a_request_that_asks_to_close(mesh: L7Mesh) -> None:
    """The server does not hear of it: its connection is not the client's."""
    head = "GET /a/head HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"
    with Carried(mesh) as carried:
        got = send(mesh, head)
    body = head.replace("Close", "     ")
    assert got == f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nconnection: close\r\n\r\n{body}<end>"
    assert (carried.relay, carried.answers) == (0, 1)


def test_an_answer_that_says_close_is_for_the_kernel_alone(mesh: L7Mesh) -> None:
    got = send(mesh, HEAD.replace("/x", "/ending"), HEAD)
    assert got == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection:      \r\n\r\na" + ANSWER


def test_a_head_of_too_many_steps_says_so(mesh: L7Mesh) -> None:
    before = mesh.status()["relayed"].get("steps", 0)
    assert send(mesh, HEAD[:-2] + "x: " + "a\t" * 1500 + "a\r\n\r\n") == ANSWER
    assert mesh.status()["relayed"]["steps"] == before + 1
