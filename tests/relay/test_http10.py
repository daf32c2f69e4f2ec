"""HTTP/1.0 where a listener accepts it: what its clients get, and what servers get for it, is the real Envoy's."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from kmesh.compiler.ir import Routing
from kmesh.relay.configuration import ClusterOptions, Configuration
from kmesh.relay.decide import Decision, decide
from kmesh.relay.head import RequestHead
from tests.support.envoy import run_envoy
from tests.support.plain_relay import plain_relay
from tests.support.raw_server import RawServer, raw_server
from tests.support.request_shapes import write_shape
from tests.support.resources import endpoint, filter_chain, http_manager, socket_address, static_cluster
from tests.support.route_oracle import Case, decode_case, envoy_ports

_SILENT_S = 0.25
"""Without a byte and without an end: nothing more comes."""
_OK = b"HTTP/1.1 200 OK\r\n"
_TWO = b"content-length: 2\r\n\r\nok"
_CHUNKS = b"transfer-encoding: chunked\r\nx-a: b\r\n\r\n"
_SCRIPTS = {
    "chunks": (_OK + _CHUNKS + b"2\r\nok\r\n", 0.02, b"3;x=y\r\nab", 0.02, b"c\r\n0\r\nx-t: x\r\n\r\n"),
    "split": (_OK + _CHUNKS, *(bytes((byte,)) for byte in b"a\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n")),
    "no-chunks": (_OK + _CHUNKS + b"0\r\n\r\n",),
    "large-chunks": (_OK + _CHUNKS + (b"%x\r\n" % 300_000 + b"a" * 300_000 + b"\r\n") * 3 + b"0\r\n\r\n",),
    "small-chunks": (_OK + _CHUNKS + b"1\r\nx\r\n" * 9000 + b"0\r\n\r\n",),
    "close": (_OK + b"x-a: b\r\n\r\nok", "close"),
    "server-closes": (_OK + b"connection: close\r\n" + _TWO, "close"),
    "old-server": (b"HTTP/1.0 200 OK\r\n" + _TWO, "close"),
    "kept": (_OK + b"connection: keep-alive\r\nkeep-alive: timeout=5\r\n" + _TWO,),
    "empty": (_OK + b"content-length: 0\r\n\r\n",),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n",),
    "304-length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",),
    "hints": (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + _OK + _TWO,),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + _TWO,),
    "awaited": (b"HTTP/1.1 100 Continue\r\n\r\n", "body", _OK + _TWO),
    "head": (_OK + b"content-length: 5\r\n\r\n",),
    "head-chunks": (_OK + _CHUNKS,),
    "named": (_OK + b"connection: transfer-encoding\r\n" + _CHUNKS + b"2\r\nok\r\n0\r\n\r\n",),
}
_KEEP = b"Connection: keep-alive"


def _old(target: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.0", **more) -> bytes:
    return write_shape(*lines, method=method, target=target, version=version, **more)


def _post(*lines: bytes, body: bytes = b"hi", target: bytes = b"/ok") -> bytes:
    return _old(target, *lines, method=b"POST", body=body)


_UNKEPT = [name for name in _SCRIPTS if name not in ("awaited", "head", "head-chunks")]
_REQUESTS = {
    **{f"{name}": _old(f"/{name}".encode()) for name in _UNKEPT},
    **{f"{name}, kept": _old(f"/{name}".encode(), _KEEP) for name in _UNKEPT},
    **{f"HEAD {name}": _old(f"/{name}".encode(), method=b"HEAD") for name in ("head", "head-chunks", "close")},
    **{f"HEAD {name}, kept": _old(f"/{name}".encode(), _KEEP, method=b"HEAD") for name in ("head", "head-chunks")},
    "two": _old(b"/ok", _KEEP) * 2,
    "two, not kept": _old(b"/ok") * 2,
    "two, the second in chunks": _old(b"/ok", _KEEP) + _old(b"/chunks", _KEEP) + _old(b"/ok", _KEEP),
    "1.1 behind it": _old(b"/ok", _KEEP) + write_shape(target=b"/ok"),
    "1.1 before it": write_shape(target=b"/ok") + _old(b"/ok"),
    **{
        f"{line.decode()}": _old(b"/ok", line)
        for line in (
            *(b"Connection: Keep-Alive", b"Connection: x, keep-alive", b"Connection: keep-alive, close"),
            *(b"Connection: close", b"Proxy-Connection: keep-alive", b"Connection: TE, keep-alive"),
        )
    },
    "close beside keep-alive": _old(b"/ok", b"Connection: close", _KEEP),
    "proxy-connection": _old(b"/ok", _KEEP, b"Proxy-Connection: close"),
    "te": _old(b"/ok", b"TE: trailers", b"Connection: TE, keep-alive"),
    "connection names a header": _old(b"/ok", b"Connection: x-a, keep-alive", b"X-A: 1"),
    "no host": _old(b"/ok", host=None),
    "no host, kept": _old(b"/ok", _KEEP, host=None),
    "an empty host": _old(b"/ok", host=b"Host:"),
    "a host that is none": _old(b"/ok", host=b"Host: a b"),
    "connection names the host": _old(b"/ok", b"Connection: host"),
    "absolute": _old(b"http://b.example/ok"),
    "absolute without a host": _old(b"http://b.example/ok", host=None),
    "absolute without a path": _old(b"http://b.example", host=None),
    "absolute, connection names the host": _old(b"http://b.example/ok", b"Connection: host"),
    "a body": _post(b"Content-Length: 2"),
    "a body, kept": _post(b"Content-Length: 2", _KEEP),
    "a body without a length": _old(b"/ok", method=b"POST"),
    "chunks of a client": _post(b"Transfer-Encoding: chunked", _KEEP, body=b"2\r\nhi\r\n0\r\n\r\n"),
    "chunks that are none": _post(b"Transfer-Encoding: chunked", body=b"zz\r\n"),
    "gzip": _post(b"Transfer-Encoding: gzip", body=b""),
    "gzip without a host": _old(b"/ok", b"Transfer-Encoding: gzip", method=b"POST", host=None),
    "length and coding": _post(b"Transfer-Encoding: chunked", b"Content-Length: 2", body=b""),
    "no length": _post(b"Content-Length: x", body=b""),
    "two lengths": _post(b"Content-Length: 2", b"Content-Length: 3", body=b""),
    "expects to go on": _post(b"Content-Length: 2", b"Expect: 100-continue", target=b"/awaited"),
    "connect": _old(b"a:80", method=b"CONNECT"),
    "connect without a host": _old(b"a:80", method=b"CONNECT", host=None),
    "connect to a path": _old(b"/ok", method=b"CONNECT"),
    "options *": _old(b"*", method=b"OPTIONS"),
    "get *": _old(b"*"),
    "ftp": _old(b"ftp://b/x"),
    "relative": _old(b"foo"),
    "fragment": _old(b"/a#b"),
    "no header line": _old(b"/ok", b"a b: c"),
    "101 headers": _old(b"/ok", *(b"x-%d: 1" % number for number in range(100))),
    "unknown method": _old(b"/ok", method=b"FOO"),
    **{f"{name}": _old(f"/{name}".encode()) for name in ("teapot", "nothing", "redirect", "none", "refused")},
    **{f"{name}, kept": _old(f"/{name}".encode(), _KEEP) for name in ("teapot", "nothing", "redirect", "refused")},
    "HEAD teapot, kept": _old(b"/teapot", _KEEP, method=b"HEAD"),
    "a part of a body to a reply": _old(b"/teapot", b"Content-Length: 9", _KEEP, method=b"POST", body=b"hi"),
    **{
        f"{version.decode()}": _old(b"/ok", version=version)
        for version in (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.10", b"http/1.0")
    },
    "HTTP/1.2 in chunks": _old(b"/chunks", _KEEP, version=b"HTTP/1.2"),
}
_HOSTS = [name for name in _REQUESTS if "host" in name or "absolute" in name]
_REFUSED = ("gzip", "length and coding", "no length", "connect to a path", "options *", "ftp", "relative", "fragment")
_REFUSED += ("no header line", "101 headers", "chunks, kept", "HTTP/2.0", "chunks that are none")
_ROUTES = [
    {"match": {"path": "/redirect"}, "redirect": {"path_redirect": "/new"}},
    {"match": {"path": "/teapot"}, "direct_response": {"status": 418, "body": {"inline_string": "teapot"}}},
    {"match": {"path": "/nothing"}, "direct_response": {"status": 200}},
    {"match": {"path": "/none"}, "route": {"cluster": "none"}},
    {"match": {"path": "/refused"}, "route": {"cluster": "refused"}},
    {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0s"}},
]
_TABLE = {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": _ROUTES}]}
_OPTIONS = {
    "accepted": {"accept_http_10": True},
    "with a default host": {"accept_http_10": True, "default_host_for_http_10": "d.example"},
    "not accepted": {"default_host_for_http_10": "d.example"},
}


@dataclass(frozen=True)
class _Hops:
    server: RawServer
    ports: dict[str, int]
    """Of the real Envoy, by name of its options."""


@pytest.fixture(scope="module")
def hops() -> Iterator[_Hops]:
    with ExitStack() as stack:
        server = stack.enter_context(raw_server(_SCRIPTS))
        fronts = [
            {
                "name": name,
                "address": socket_address("127.0.0.1", 0),
                "filter_chains": [
                    filter_chain(
                        http_manager(
                            route_config={**_TABLE, "validate_clusters": False}, http_protocol_options=options
                        )
                    )
                ],
            }
            for name, options in _OPTIONS.items()
        ]
        clusters = [
            static_cluster(endpoint(*server.address)),
            static_cluster(endpoint("127.0.0.1", 1), name="refused"),
        ]
        envoy = stack.enter_context(run_envoy({"static_resources": {"listeners": fronts, "clusters": clusters}}))
        yield _Hops(server, envoy_ports(envoy))


def _talk(port: int, request: bytes) -> bytes:
    """All that is answered until the end of the stream, or silence."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=_SILENT_S) as client:
        client.sendall(request)
        try:
            while received := client.recv(1 << 20):
                answer += received
        except TimeoutError:
            pass
    return answer


async def _ask_relay(server: RawServer, options: dict[str, object], request: bytes) -> bytes:
    manager = decode_case(Case(routes=_TABLE, options={"http_protocol_options": options}, requests=()))
    assert manager.route_config
    routing = Routing(
        name="r", config=manager.route_config, normalization=manager.normalization, http10=manager.http10
    )
    clusters = {"c": ClusterOptions(id=1), "refused": ClusterOptions(id=2)}
    configuration = Configuration(routings={0: routing}, clusters=clusters)

    def choose(head: RequestHead) -> Decision:
        relay.endpoint = ("127.0.0.1", 1) if head.target == b"/refused" else server.address
        return decide(configuration, 0, head, relay.port, lambda _: 0)

    async with plain_relay(server.address, choose) as relay:
        relay.http10 = routing.http10
        return await asyncio.to_thread(_talk, relay.port, request)


_OF_A_HOP = re.compile(rb"(?:x-forwarded-proto|x-request-id|x-envoy-.*|date|server): .*|content-length: 0")


def _read_head(head: bytes) -> tuple[bytes, list[bytes]]:
    """(first line, the others sorted, without what Envoy adds of its own)."""
    first, *lines = head.split(b"\r\n")
    parts = (line.partition(b":") for line in lines)
    lowered = (name.lower() + b": " + value.strip() for name, _, value in parts)
    return first, sorted(line for line in lowered if not _OF_A_HOP.fullmatch(line))


def _read_answers(received: bytes, *, is_head: bool) -> list[tuple[bytes, list[bytes], bytes]]:
    """What a client that goes by lengths makes of it."""
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        first, lines = _read_head(head)
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        bodiless = is_head or re.match(rb"HTTP/1\.. (?:1\d\d|204|304) ", first)
        end = 0 if bodiless else int(length[1]) if length else len(received)
        answers.append((first, lines, received[:end]))
        received = received[end:]
    return answers


def _take_seen(server: RawServer) -> list[tuple[tuple[bytes, list[bytes]], bytes]]:
    """Heads and bodies that came since; connections that came to nothing left out."""
    seen = [request.partition(b"\r\n\r\n") for request in server.requests if request]
    server.requests.clear()
    return [(_read_head(head), body) for head, _, body in seen]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, "accepted") for name in _REQUESTS),
        *((name, options) for name in (*_HOSTS, *_REFUSED) for options in _OPTIONS if options != "accepted"),
    ],
)
def test_is_served_as_envoy_does(hops, name, options):
    request = _REQUESTS[name]
    is_head = request.startswith(b"HEAD ")
    want = _read_answers(_talk(hops.ports[options], request), is_head=is_head)
    want_seen = _take_seen(hops.server)
    got = _read_answers(asyncio.run(_ask_relay(hops.server, _OPTIONS[options], request)), is_head=is_head)
    got_seen = _take_seen(hops.server)
    assert want
    assert got == want
    if name == "expects to go on":  # Envoy answers that itself, and here the server does
        got_seen = [
            ((first, [line for line in lines if b"expect" not in line]), body) for (first, lines), body in got_seen
        ]
    if name != "chunks that are none":  # then the head goes on or does not, as it happens
        assert got_seen == want_seen


def test_chunks_that_break_off_reset_the_client(hops):
    """Where Envoy ends the stream, as if it had been all."""
    scripts = {"broken": (_OK + _CHUNKS + b"2\r\nok\r\nzz\r\n",)}
    with raw_server(scripts) as server, pytest.raises(ConnectionResetError):
        asyncio.run(_ask_relay(server, _OPTIONS["accepted"], _old(b"/broken")))


def test_a_client_that_is_kept_is_granted_to_the_programs():
    async def run(server: RawServer) -> list[tuple[int, int, int]]:
        manager = decode_case(
            Case(routes=_TABLE, options={"http_protocol_options": _OPTIONS["accepted"]}, requests=())
        )
        async with plain_relay(server.address) as relay:
            relay.http10 = manager.http10
            await asyncio.to_thread(_talk, relay.port, _old(b"/ok", _KEEP))
            kept = list(relay.grants)
            relay.grants.clear()
            await asyncio.to_thread(_talk, relay.port, _old(b"/ok"))
            return kept + relay.grants

    with raw_server() as server:
        (grant,) = asyncio.run(run(server))
    assert grant[0] == len(_old(b"/ok", _KEEP))
