"""Heads as the relay reads them: as strictly as Envoy at least, alike however they are cut, and as programs do."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.relay.head import (
    MAX_ANSWER_HEAD_BYTES,
    MAX_HEAD_BYTES,
    AnswerHead,
    BadAnswer,
    BadRequest,
    Body,
    RequestHead,
    read_answer_head,
    read_request_head,
)
from tests.support.any_heads import any_head
from tests.support.envoy_hop import ask, envoy_hop
from tests.support.plain_heads import read_plain
from tests.support.raw_server import raw_server
from tests.support.request_shapes import HEAD_SHAPES, write_shape


@pytest.fixture(scope="module")
def envoy() -> Iterator[int]:
    with raw_server() as server, envoy_hop(server.address) as port:
        yield port


@pytest.mark.parametrize("request_", HEAD_SHAPES.values(), ids=list(HEAD_SHAPES))
def test_what_envoy_refuses_is_refused_with_its_status(envoy, request_):
    status = int(ask(envoy, request_).split(b" ")[1])
    head = read_request_head(request_)
    if status >= 400:
        assert isinstance(head, BadRequest) and head.status == status
    else:
        assert isinstance(head, RequestHead) or head.status == 400


@pytest.mark.parametrize(
    "name",
    [
        *("folded line", "bare LF", "one bare LF", "bare CR", "two hosts", "space behind the version", "LF first"),
        *("two spaces", "tabs in the request line"),
    ],
)
def test_what_envoy_would_write_anew_is_refused(name):
    head = read_request_head(HEAD_SHAPES[name])
    assert isinstance(head, BadRequest) and head.status == 400


@given(st.integers(0, 2**32))
def test_what_a_program_may_take_is_read_the_same(seed):
    """The program's reader and this one differ in what they refuse, never in what they read."""
    received = any_head(Random(seed))
    plain, head = read_plain(received), read_request_head(received)
    if plain and isinstance(head, RequestHead):
        request = plain.request
        assert (head.method, head.target, head.headers) == (request.method, request.target, request.headers)
        assert head.length == plain.length


@given(st.integers(0, 2**32), st.integers(0, 400))
def test_a_part_of_a_head_is_refused_only_if_the_whole_is(seed, cut):
    received = any_head(Random(seed))
    part, whole = read_request_head(received[:cut]), read_request_head(received)
    if isinstance(part, BadRequest):
        assert isinstance(whole, BadRequest)
    elif part:
        assert part == whole


@pytest.mark.parametrize(
    "part",
    [b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n", b"FOO ", b"x" * 40, b"GET / HTTP/1.1\n", b"\0"],
)
def test_what_cannot_become_a_request_is_not_waited_for(part):
    assert isinstance(read_request_head(part), BadRequest)


@pytest.mark.parametrize(
    "part",
    [b"", b"\r\n", b"G", b"GET", b"GET /", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.0\r\n"],
)
def test_what_can_is(part):
    assert read_request_head(part) is None


def test_a_head_without_an_end_is_refused_at_the_bound():
    begun = b"GET / HTTP/1.1\r\nHost: a\r\nx: "
    assert read_request_head(begun.ljust(MAX_HEAD_BYTES, b"a")) is None
    assert read_request_head(begun.ljust(MAX_HEAD_BYTES + 1, b"a")) == BadRequest(431, "the head is too large")


def test_what_a_head_says():
    raw = write_shape(
        *(b"Connection: close, Upgrade", b"Upgrade: WebSocket", b"Expect: 100-Continue", b"Content-Length: 7"),
        method=b"POST",
        target=b"/x",
    )
    head = read_request_head(b"\r\n" + raw + b"bodybod")
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, head.raw, head.length) == (b"POST", b"/x", raw, len(raw) + 2)
    assert (head.body, head.body_length) == (Body.LENGTH, 7)
    assert head.closes and head.expects_continue and head.upgrade == b"websocket"
    assert head.values(b"content-length") == [b"7"]


# Answers


@pytest.mark.parametrize(
    ("lines", "method", "body", "closes"),
    [
        (b"200 OK\r\ncontent-length: 5", b"GET", Body.LENGTH, False),
        (b"200 OK\r\ncontent-length: 0", b"GET", Body.NONE, False),
        (b"200 OK\r\ncontent-length: 5\r\nconnection: close", b"GET", Body.LENGTH, True),
        (b"200 OK\r\ntransfer-encoding: chunked", b"GET", Body.CHUNKED, False),
        (b"200 OK", b"GET", Body.UNTIL_CLOSE, True),
        (b"200", b"HEAD", Body.NONE, False),
        (b"200 OK\r\ntransfer-encoding: chunked", b"HEAD", Body.NONE, False),
        (b"304 Not Modified\r\ncontent-length: 99", b"GET", Body.NONE, False),
        (b"204 No Content", b"GET", Body.NONE, False),
        (b"100 Continue", b"POST", Body.NONE, False),
        (b"101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade", b"GET", Body.TUNNEL, True),
    ],
)
def test_how_the_body_of_an_answer_ends(lines, method, body, closes):
    raw = b"HTTP/1.1 " + lines + b"\r\n\r\n"
    head = read_answer_head(raw + b"behind", method)
    assert isinstance(head, AnswerHead)
    assert (head.body, head.closes, head.length, head.is_old) == (body, closes, len(raw), False)


@pytest.mark.parametrize(
    ("lines", "closes"), [(b"content-length: 2", True), (b"connection: keep-alive\r\ncontent-length: 2", False)]
)
def test_old_servers_close_unless_they_say_otherwise(lines, closes):
    head = read_answer_head(b"HTTP/1.0 200 OK\r\n" + lines + b"\r\n\r\n", b"GET")
    assert isinstance(head, AnswerHead) and head.is_old and head.closes is closes


@pytest.mark.parametrize(
    "raw",
    [
        *(b"hello\r\n", b"HTTP/2.0 200 OK\r\n", b"HTTP/1.1 99 X\r\n\r\n", b"HTTP/1.1 2000 X\r\n", b"HTTP/1.1 OK\r\n"),
        *(b"HTTP/1.1 200 OK\nx: y\n\n", b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        (b"HTTP/1.1 200 OK\r\nx: ").ljust(MAX_ANSWER_HEAD_BYTES + 1, b"a"),
    ],
)
def test_what_is_no_answer_is_not_passed_on(raw):
    assert isinstance(read_answer_head(raw, b"GET"), BadAnswer)
