"""Answers that a proxy makes itself: the relay's are the real Envoy's, byte for byte but for the date."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

import kmesh.relay.client
from kmesh.relay.client import Unreachable
from kmesh.relay.decide import Decision, Refused
from kmesh.relay.head import RequestHead
from kmesh.relay.replies import NO_HEALTHY_UPSTREAM, write_reply
from tests.support.envoy_hop import TIMEOUT_S, ask, envoy_hop
from tests.support.plain_relay import PlainRelay, plain_relay, reply, to_cluster
from tests.support.raw_server import RawServer, raw_server
from tests.support.request_shapes import SHAPES, write_shape

_ANSWER = b"HTTP/1.1 200 OK\r\n"
_SCRIPTS = {
    "closes": ("close",),
    "resets": ("rst",),
    "half-a-head": (_ANSWER, "close"),
    "noise": (b"hello\r\n\r\n",),
    "two-lengths": (_ANSWER + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",),
    "length-and-coding": (_ANSWER + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",),
    "gzip": (_ANSWER + b"transfer-encoding: gzip\r\n\r\nok", "close"),
    "many": (_ANSWER + b"x: a\r\n" * 101 + b"content-length: 0\r\n\r\n",),
    "nul": (_ANSWER + b"x: \0\r\ncontent-length: 0\r\n\r\n",),
    "no-content": (b"HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nok",),
    "timeout": (TIMEOUT_S * 3,),
    "idle": (TIMEOUT_S * 3,),
}
_REQUESTS = {
    "a redirect": write_shape(target=b"/redirect"),
    "a direct response": write_shape(target=b"/teapot"),
    "one without a body": write_shape(target=b"/nothing"),
    "one to HEAD": write_shape(target=b"/teapot", method=b"HEAD"),
    "one to a client that closes": write_shape(b"Connection: close", target=b"/teapot"),
    "one to a body": write_shape(b"Content-Length: 2", method=b"POST", target=b"/teapot", body=b"hi"),
    "one to a part of a body": write_shape(b"Content-Length: 9", method=b"POST", target=b"/teapot", body=b"hi"),
    "one without a body to one": write_shape(b"Content-Length: 2", method=b"POST", target=b"/redirect", body=b"hi"),
    "no endpoint": write_shape(target=b"/empty"),
    "no endpoint, for HEAD": write_shape(target=b"/empty", method=b"HEAD"),
    "no connection": write_shape(target=b"/refused"),
    "a time-out": write_shape(target=b"/timeout"),
    "idleness": write_shape(target=b"/idle"),
    "idleness within a body": write_shape(b"Content-Length: 9", method=b"POST", target=b"/idle", body=b"hi"),
    "a head that takes too long": b"GET / HTTP/1.1\r\nHost:",
    **{name: write_shape(target=b"/" + name.encode()) for name in _SCRIPTS if name not in ("timeout", "idle")},
    **{name: SHAPES[name] for name in ("no host", "HTTP/1.0", "61 KiB", "fragment", "length and coding")},
    **{name: SHAPES[name] for name in ("coding b' gzip'", "connect", "101 headers", "TLS")},
    "a chunk that is none": write_shape(b"Transfer-Encoding: chunked", method=b"POST", body=b"zz\r\n"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with raw_server(_SCRIPTS) as server:
        yield server


@pytest.fixture(scope="module")
def envoy(server) -> Iterator[int]:
    with envoy_hop(server.address) as port:
        yield port


def _choose(head: RequestHead) -> Decision:
    match head.target:
        case b"/redirect":
            return reply(301, headers=((b"location", b"http://a/new"),))
        case b"/teapot":
            return reply(418, b"teapot")
        case b"/nothing":
            return reply(200)
        case b"/timeout":
            return to_cluster(timeout_s=TIMEOUT_S)
        case b"/idle":
            return to_cluster(idle_timeout_s=TIMEOUT_S)
        case b"/unknown-feature":
            return Refused(feature="x")
        case _:
            return to_cluster()


async def _ask_relay(server: RawServer, request: bytes) -> tuple[bytes, PlainRelay]:
    async with plain_relay(server.address, _choose) as relay:
        if b" /empty " in request:
            relay.unreachable = Unreachable(NO_HEALTHY_UPSTREAM)
        if b" /refused " in request:
            relay.endpoint = ("127.0.0.1", 1)
        return await asyncio.to_thread(ask, relay.port, request), relay


def _without_date(answer: bytes) -> bytes:
    date = rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    return re.sub(rb"\r\ndate: %s\r\n" % date, b"\r\ndate\r\n", answer)


@pytest.mark.parametrize("request_", _REQUESTS.values(), ids=list(_REQUESTS))
def test_own_answers_are_envoys(server, envoy, request_, monkeypatch):
    monkeypatch.setattr(kmesh.relay.client, "HEAD_S", TIMEOUT_S)
    got, _ = asyncio.run(_ask_relay(server, request_))
    want = ask(envoy, request_)
    assert _without_date(got) == _without_date(want)
    assert b"\r\ndate\r\n" in _without_date(got)


def test_what_nothing_here_does_is_refused_by_name(server):
    got, relay = asyncio.run(_ask_relay(server, write_shape(target=b"/unknown-feature")))
    assert got.startswith(b"HTTP/1.1 503 ") and got.endswith(b"\r\n\r\nnot supported: x")
    assert relay.grants  # the connection goes on


def test_headers_of_a_reply_stand_behind_its_length():
    answer = write_reply(200, b"x", ((b"content-type", b"a/b"), (b"x-a", b"c")), closes=True)
    lines = answer.split(b"\r\n")
    assert lines[1:4] == [b"content-length: 1", b"content-type: a/b", b"x-a: c"]
    assert lines[5:] == [b"server: envoy", b"connection: close", b"", b"x"]
