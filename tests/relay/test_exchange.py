"""Relayed exchanges: what clients and servers get is what the real Envoy gives them, and nothing is lost between."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from kmesh.relay.decide import Decision
from kmesh.relay.head import RequestHead
from tests.support.envoy_hop import ask, envoy_hop, without_hop_lines
from tests.support.plain_relay import PlainRelay, plain_relay, to_cluster
from tests.support.raw_server import RawServer, Script, raw_server
from tests.support.request_shapes import SHAPES, write_shape

_ANSWER = b"HTTP/1.1 200 OK\r\n"
_WHOLE = _ANSWER + b"content-length: 2\r\n\r\nok"


def _in_relay(
    scripts: dict[str, Script],
    talk: Callable[[PlainRelay, RawServer], None],
    choose: Callable[[RequestHead], Decision] = lambda _: to_cluster(),
) -> tuple[PlainRelay, RawServer]:
    """Run `talk` in a thread of its own while the relay and a server with these scripts run."""

    async def run(server: RawServer) -> PlainRelay:
        async with plain_relay(server.address, choose) as relay:
            await asyncio.wait_for(asyncio.to_thread(talk, relay, server), 30)
            return relay

    with raw_server(scripts) as server:
        return asyncio.run(run(server)), server


def _connect(relay: PlainRelay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=10)


def _read_all(sock: socket.socket) -> bytes:
    """Until the end. Raises ConnectionResetError."""
    received = b""
    while more := sock.recv(65536):
        received += more
    return received


def _read_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        more = sock.recv(65536)
        assert more, received
        received += more
    return received


# The same bytes to Envoy and to the relay

_SAME_ANSWERS: dict[str, Script] = {
    "chunked": (_ANSWER + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", 0.01, b"3;x=y\r\ncde\r\n0\r\n\r\n"),
    "trailers": (_ANSWER + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",),
    "length": (_ANSWER + b"content-length: 5\r\n\r\nab", 0.01, b"cde"),
    "nothing": (_ANSWER + b"content-length: 0\r\n\r\n",),
    "no-content": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "not-modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: x\r\n\r\n",),
    "closes": (_ANSWER + b"connection: close\r\ncontent-length: 2\r\n\r\nok", "close"),
    "kept": (_ANSWER + b"connection: keep-alive\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok",),
    "old": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "close"),
    "hop": (_ANSWER + b"proxy-connection: x\r\nx-c: d\r\ncontent-length: 2\r\n\r\nok",),
    "split": (_ANSWER[:5], 0.01, _ANSWER[5:] + b"x: y\r", 0.01, b"\ncontent-length: 2\r\n\r", 0.01, b"\nok"),
    "big-head": (_ANSWER + b"x: " + b"a" * 50_000 + b"\r\ncontent-length: 2\r\n\r\nok",),
    "error": (b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno",),
}


@pytest.fixture(scope="module")
def envoy_server() -> Iterator[RawServer]:
    with raw_server(_SAME_ANSWERS) as server:
        yield server


@pytest.fixture(scope="module")
def envoy(envoy_server) -> Iterator[int]:
    with envoy_hop(envoy_server.address) as port:
        yield port


@pytest.mark.parametrize("request_", SHAPES.values(), ids=list(SHAPES))
def test_status_and_what_the_server_sees_are_as_with_envoy(envoy_server, envoy, request_):
    envoy_server.requests.clear()
    want = ask(envoy, request_)
    answers = []
    _, server = _in_relay({}, lambda relay, _: answers.append(ask(relay.port, request_)))
    statuses = [int(answer.split(b" ")[1]) for answer in (answers[0], want)]
    seen, seen_by_envoy = server.requests, envoy_server.requests
    if statuses[0] >= 400:
        assert statuses[1] in (statuses[0], 200)  # stricter, for what Envoy would write anew
        assert not any(body for _, _, body in map(without_hop_lines, seen))
        return
    assert list(map(without_hop_lines, seen)) == list(map(without_hop_lines, seen_by_envoy))
    assert without_hop_lines(answers[0]) == without_hop_lines(want)


@pytest.mark.parametrize("name", _SAME_ANSWERS)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_answers_come_as_through_envoy(envoy, name, method):
    request = write_shape(target=b"/" + name.encode(), method=method)
    if method == b"HEAD" and name not in ("nothing", "no-content", "not-modified", "kept"):
        request = write_shape(target=b"/kept", method=b"HEAD")
    want = ask(envoy, request)
    answers = []
    _in_relay(_SAME_ANSWERS, lambda relay, _: answers.append(ask(relay.port, request)))
    got_first, *got = without_hop_lines(answers[0])
    want_first, *want_rest = without_hop_lines(want)
    assert (got_first.split(b" ")[1], got) == (want_first.split(b" ")[1], want_rest)
    assert (b"\r\nconnection: close" in answers[0]) == (b"\r\nconnection: close" in want)


# One after another


def test_a_connection_serves_requests_one_after_another_in_order():
    requests = [
        write_shape(target=b"/chunked"),
        write_shape(b"Content-Length: 5", method=b"POST", target=b"/length", body=b"hello"),
        write_shape(method=b"HEAD", target=b"/nothing"),
        write_shape(target=b"/closes"),
        write_shape(b"Transfer-Encoding: chunked", method=b"PUT", target=b"/x", body=b"2\r\nhi\r\n0\r\n\r\n"),
        write_shape(b"Connection: close", target=b"/error"),
    ]
    received = []

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(b"".join(requests))
            received.append(_read_all(sock))

    relay, server = _in_relay(_SAME_ANSWERS, talk)
    statuses = [part[:3] for part in received[0].split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 5 + [b"500"]
    assert [request.split(b" ")[1] for request in server.requests] == [
        *(b"/chunked", b"/length", b"/nothing", b"/closes", b"/x", b"/error")
    ]
    assert relay.released == [True, True, True, False, True, True]


@pytest.mark.parametrize("at", [1, 2, 7])
def test_requests_and_answers_may_be_cut_anywhere(at):
    body = b"3\r\nabc\r\n1;x\r\nd\r\n0\r\nx: y\r\n\r\n"
    request = write_shape(b"Transfer-Encoding: chunked", method=b"POST", body=body)
    answer = _ANSWER + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    script: list[bytes | float | str] = ["body"]
    for start in range(0, len(answer), at):
        script += [answer[start : start + at], 0.001]
    received = []

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(request), at):
                sock.sendall(request[start : start + at])
            received.append(_read_until(sock, b"0\r\n\r\n"))

    _, server = _in_relay({"": script}, talk)
    assert received == [answer]
    assert server.requests == [request]


# Before and beside the answer


def test_a_client_that_expects_a_continue_gets_the_servers_own():
    scripts = {"x": (b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n", "body", _WHOLE)}

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(b"Expect: 100-continue", b"Content-Length: 2", method=b"POST", target=b"/x"))
            assert _read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n"
            sock.sendall(b"hi")
            assert _read_until(sock, b"ok") == _WHOLE

    relay, server = _in_relay(scripts, talk)
    assert server.requests[0].endswith(b"\r\n\r\nhi") and b"Expect: 100-continue\r\n" in server.requests[0]
    assert relay.released == [True]


def test_interim_answers_are_passed_on():
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    answers = []
    _in_relay({"x": (interim[:50], 0.01, interim[50:], 0.01, _WHOLE)}, lambda relay, _: answers.append(_get(relay)))
    assert answers == [interim + _WHOLE]


def _get(relay: PlainRelay, target: bytes = b"/x") -> bytes:
    with _connect(relay) as sock:
        sock.sendall(write_shape(target=target))
        return _read_until(sock, b"ok")


def test_an_early_answer_is_passed_on_and_ends_the_connection():
    answer = _ANSWER + b"content-length: 4\r\n\r\nokok"
    scripts: dict[str, Script] = {"x": (answer[:-2], 0.05, answer[-2:], "rest")}
    received = []

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(b"Content-Length: 1000000", method=b"POST", target=b"/x") + bytes(1000))
            received.append(_read_all(sock))

    relay, _ = _in_relay(scripts, talk)
    assert received[0].replace(b"connection: close\r\n", b"") == answer
    assert b"connection: close\r\n" in received[0]
    assert relay.released == [False] and not relay.grants


def test_an_answer_to_a_request_that_the_server_does_not_read_arrives():
    """The server answers, and closes with a reset, since bytes of the request lie unread."""
    received = []

    def talk(relay, _):
        with _connect(relay) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(write_shape(b"Content-Length: 300000", method=b"POST", target=b"/x"))
            for _ in range(30):
                sock.sendall(bytes(10000))
        received.append(True)

    answers = []

    def talk_and_read(relay, server):
        with _connect(relay) as sock:
            sock.sendall(write_shape(b"Content-Length: 300000", method=b"POST", target=b"/x") + bytes(100_000))
            answers.append(_read_all(sock))

    _in_relay({"x": (b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno", 0.1, "close")}, talk_and_read)
    assert answers[0].startswith(b"HTTP/1.1 413 ") and answers[0].endswith(b"\r\n\r\nno")
    _in_relay({"x": ("rst",)}, talk)
    assert received


# Bodies


def _digest(size: int, read: Callable[[int], bytes]) -> str:
    digest = hashlib.sha256()
    while size:
        piece = read(min(size, 1 << 20))
        if not piece:
            break
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("size", [1, 65_536, 524_287, 524_288, 40_000_000])
def test_bodies_of_any_length_arrive_whole_both_ways(size):
    body = os.urandom(1000) * (size // 1000 + 1)
    body = body[:size]
    head = _ANSWER + b"content-length: %d\r\n\r\n" % size
    digests = []

    def talk(relay, _):
        with _connect(relay) as sock, sock.makefile("rb") as stream:
            request = write_shape(b"Content-Length: %d" % size, method=b"PUT", target=b"/x", body=body)
            sending = threading.Thread(target=sock.sendall, args=(request,))
            sending.start()
            while stream.readline() != b"\r\n":
                pass
            digests.append(_digest(size, stream.read))
            sending.join()

    relay, server = _in_relay({"x": ("body", head + body)}, talk)
    want = hashlib.sha256(body).hexdigest()
    assert digests == [want]
    assert hashlib.sha256(server.requests[0].partition(b"\r\n\r\n")[2]).hexdigest() == want
    assert relay.released == [True]
    assert len(relay.grants) == 1 and relay.grants[0][1] == len(head) + size


def test_a_body_that_ends_with_the_connection_ends_the_clients():
    received = []

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(target=b"/x"))
            received.append(_read_all(sock))

    relay, _ = _in_relay({"x": (_ANSWER + b"\r\n", b"x" * 300_000, "close")}, talk)
    assert received == [_ANSWER + b"connection: close\r\n\r\n" + b"x" * 300_000]
    assert relay.released == [False] and not relay.grants


def test_a_slow_reader_costs_no_memory_here():
    """The server's 60 MB wait in queues of the kernel; behind one of 64 KB the relay holds nothing."""
    size = 60_000_000
    sent = []

    def serve(listener):
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(_ANSWER + b"content-length: %d\r\n\r\n" % size)
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while sum(sent) < size:
                    sent.append(sock.send(bytes(65536)))

    async def run():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            thread = threading.Thread(target=serve, args=(listener,), daemon=True)
            thread.start()
            async with plain_relay(listener.getsockname()) as relay:
                with socket.socket() as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                    sock.connect(("127.0.0.1", relay.port))
                    sock.sendall(write_shape())
                    await asyncio.to_thread(thread.join, 10)

    asyncio.run(run())
    assert 0 < sum(sent) < size / 2


# Loss


@pytest.mark.parametrize(
    "script",
    [
        (_ANSWER + b"content-length: 9\r\n\r\nab", 0.05, "close"),
        (_ANSWER + b"content-length: 9\r\n\r\nab", 0.05, "rst"),
        (_ANSWER + b"content-length: 9000000\r\n\r\nab", 0.05, "close"),
        (_ANSWER + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", 0.05, "close"),
        (_ANSWER + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", 0.05, b"zz\r\n"),
    ],
)
def test_an_answer_that_breaks_off_resets_the_client(script):
    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(target=b"/x"))
            assert b"ab" in _read_until(sock, b"ab" + b"\r\n" * (b"chunked" in script[0]))
            with pytest.raises(ConnectionResetError):
                _read_all(sock)

    relay, _ = _in_relay({"x": script}, talk)
    assert relay.released == [False] and not relay.grants and len(relay.forgotten) == 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_is_gone_resets_the_server(begun):
    done = threading.Event()
    scripts: dict[str, Script] = {"x": (_ANSWER + b"content-length: 9\r\n\r\nab", "rest") if begun else ("rest",)}

    def talk(relay, server):
        sock = _connect(relay)
        sock.sendall(write_shape(target=b"/x"))
        if begun:
            assert b"ab" in sock.recv(65536)
        while not server.requests:
            done.wait(0.01)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        while not server.ends:
            done.wait(0.01)

    relay, server = _in_relay(scripts, talk)
    assert server.ends == ["reset"] and relay.released == [False]


def test_a_client_that_ends_within_its_body_resets_the_server():
    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(b"Content-Length: 9", method=b"POST", target=b"/x", body=b"hi"))
            sock.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                _read_all(sock)

    relay, _ = _in_relay({"x": ("rest",)}, talk)
    assert relay.released == [False]


def test_a_client_that_ends_behind_its_request_gets_its_answer():
    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(target=b"/x"))
            sock.shutdown(socket.SHUT_WR)
            assert _read_all(sock) == _WHOLE

    relay, _ = _in_relay({"x": (0.05, _WHOLE)}, talk)
    assert relay.released == [True] and len(relay.ended) == 1


def test_a_route_whose_time_is_over_resets_an_answer_that_has_begun():
    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(target=b"/x"))
            assert b"ab" in sock.recv(65536)
            with pytest.raises(ConnectionResetError):
                _read_all(sock)

    scripts: dict[str, Script] = {"x": (_ANSWER + b"content-length: 9\r\n\r\nab", 1.0)}
    relay, _ = _in_relay(scripts, talk, lambda _: to_cluster(timeout_s=0.1))
    assert relay.released == [False]


def test_time_spent_on_sending_the_request_does_not_count():
    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(write_shape(b"Content-Length: 2", method=b"POST", target=b"/x", body=b"h"))
            threading.Event().wait(0.3)
            sock.sendall(b"i")
            assert _read_until(sock, b"ok") == _WHOLE

    _in_relay({"x": ("body", _WHOLE)}, talk, lambda _: to_cluster(timeout_s=0.2))


def test_an_exchange_that_moves_is_not_idle():
    def talk(relay, _):
        assert _get(relay).endswith(b"abcdefghok")

    script = [_ANSWER + b"content-length: 10\r\n\r\n"]
    for letter in b"abcdefgh":
        script += [0.05, bytes((letter,))]
    _in_relay({"x": [*script, b"ok"]}, talk, lambda _: to_cluster(idle_timeout_s=0.2))


# Other protocols

_UPGRADE = write_shape(b"Connection: Upgrade", b"Upgrade: websocket", target=b"/x")
_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_an_upgrade_opens_both_ways_until_both_have_ended():
    def talk(relay, server):
        with _connect(relay) as sock:
            sock.sendall(_UPGRADE + b"early")
            assert _read_until(sock, b"hello") == _SWITCHED + b"hello"
            sock.sendall(b"late" * 100_000)
            sock.shutdown(socket.SHUT_WR)
            assert _read_all(sock) == b"bye" * 100_000

    scripts: dict[str, Script] = {"x": (_SWITCHED, b"hello", "rest", b"bye" * 100_000, "close")}
    relay, server = _in_relay(scripts, talk)
    assert server.requests[0].partition(b"\r\n\r\n")[2] == b"early" + b"late" * 100_000
    assert b"\r\nupgrade: websocket\r\n" in server.requests[0].lower()
    assert relay.released == [False] and not relay.grants


def test_the_server_may_end_its_way_first():
    def talk(relay, server):
        with _connect(relay) as sock:
            sock.sendall(_UPGRADE)
            assert _read_all(sock) == _SWITCHED + b"hello"
            sock.sendall(b"late")

    _, server = _in_relay({"x": (_SWITCHED, b"hello", "fin", "rest", "close")}, talk)
    assert server.requests[0].endswith(b"\r\n\r\n") or server.requests[0].endswith(b"late")


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_ends_both_ways(by_client):
    def talk(relay, server):
        with _connect(relay) as sock:
            sock.sendall(_UPGRADE)
            assert _read_until(sock, b"hello") == _SWITCHED + b"hello"
            if by_client:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with pytest.raises(ConnectionResetError):
                    _read_all(sock)
        while not server.ends and by_client:
            threading.Event().wait(0.01)

    _, server = _in_relay({"x": (_SWITCHED, b"hello", *(("rest",) if by_client else (0.05, "rst")))}, talk)
    assert not by_client or server.ends == ["reset"]


def test_an_upgrade_that_is_declined_is_an_exchange_like_any_other():
    answers = []

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(_UPGRADE)
            answers.append(_read_until(sock, b"ok"))
            sock.sendall(write_shape(target=b"/x"))
            answers.append(_read_until(sock, b"ok"))

    relay, _ = _in_relay({"x": (_WHOLE,)}, talk)
    assert answers == [_WHOLE, _WHOLE] and relay.released == [True, True]


def test_a_switch_that_nobody_asked_for_is_not_passed_on():
    answers = []
    request = write_shape(target=b"/x")
    _in_relay({"x": (_SWITCHED, 0.05, "close")}, lambda relay, _: answers.append(ask(relay.port, request)))
    assert answers[0].startswith(b"HTTP/1.1 502 ")


def test_bytes_behind_an_answer_go_to_nobody():
    answers = []
    relay, _ = _in_relay({"x": (_WHOLE + _WHOLE,)}, lambda relay, _: answers.extend((_get(relay), _get(relay))))
    assert answers == [_WHOLE, _WHOLE] and relay.released == [False, False]


# Changed heads


def test_heads_are_what_the_route_makes_of_them():
    def add(line: bytes) -> Callable[[bytes], bytes]:
        return lambda head: head[:-2] + line + b"\r\n\r\n"

    def choose(_: RequestHead) -> Decision:
        return to_cluster(rewrite_request=add(b"x-a: b"), rewrite_answer=add(b"x-c: d"))

    request = write_shape(b"Content-Length: 2", method=b"POST", target=b"/x", body=b"hi")
    answers = []
    scripts: dict[str, Script] = {"x": ("body", b"HTTP/1.1 103 Early Hints\r\n\r\n", _WHOLE)}

    def talk(relay, _):
        with _connect(relay) as sock:
            sock.sendall(request + request)
            answers.append(_read_until(sock, b"ok"))
            if answers[0].count(b" 200 OK") < 2:
                answers.append(_read_until(sock, b"ok"))

    relay, server = _in_relay(scripts, talk, choose)
    changed = b"HTTP/1.1 103 Early Hints\r\n\r\n" + _WHOLE.replace(b"\r\n\r\n", b"\r\nx-c: d\r\n\r\n")
    assert b"".join(answers) == changed * 2
    assert server.requests == [request.replace(b"\r\n\r\n", b"\r\nx-a: b\r\n\r\n")] * 2
    assert [given for _, given, _ in relay.grants] == [len(changed), 2 * len(changed)]
