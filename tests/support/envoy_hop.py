"""The real Envoy between a client and a server of a test's own, and how a client asks with raw bytes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.envoy import run_envoy
from tests.support.resources import endpoint, filter_chain, http_manager, socket_address, static_cluster
from tests.support.route_oracle import envoy_ports

__all__ = ["TIMEOUT_S", "ask", "envoy_hop", "without_hop_lines"]

TIMEOUT_S = 0.2
"""Of the route /timeout, of idleness on /idle, and of heads."""
_UNUSED = ("127.0.0.1", 1)


@contextmanager
def envoy_hop(server: tuple[str, int]) -> Iterator[int]:
    """The port of an Envoy that sends all but a few paths to `server`."""
    routes = [
        {"match": {"path": "/redirect"}, "redirect": {"path_redirect": "/new"}},
        {"match": {"path": "/teapot"}, "direct_response": {"status": 418, "body": {"inline_string": "teapot"}}},
        {"match": {"path": "/nothing"}, "direct_response": {"status": 200}},
        {"match": {"path": "/empty"}, "route": {"cluster": "empty"}},
        {"match": {"path": "/refused"}, "route": {"cluster": "refused"}},
        {"match": {"path": "/timeout"}, "route": {"cluster": "c", "timeout": f"{TIMEOUT_S}s"}},
        {"match": {"path": "/idle"}, "route": {"cluster": "c", "timeout": "0s", "idle_timeout": f"{TIMEOUT_S}s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0s"}},
    ]
    manager = http_manager(routes, request_headers_timeout=f"{TIMEOUT_S}s")
    front = {"name": "f", "address": socket_address("127.0.0.1", 0), "filter_chains": [filter_chain(manager)]}
    clusters = [
        static_cluster(endpoint(*server)),
        {"name": "empty", "type": "STATIC"},
        static_cluster(endpoint(*_UNUSED), name="refused"),
    ]
    with run_envoy({"static_resources": {"listeners": [front], "clusters": clusters}}) as envoy:
        yield envoy_ports(envoy)["f"]


def ask(port: int, request: bytes, *, end: bool = False, timeout_s: float = 5.0) -> bytes:
    """All that is answered to `request` until one answer is complete, the connection ends, or the time is over."""
    answer = b""
    is_head = request.lstrip().startswith(b"HEAD ")
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        try:
            connection.sendall(request)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while not _is_complete(answer, is_head) and (received := connection.recv(65536)):
                answer += received
        except (TimeoutError, ConnectionError):
            pass
    return answer


def _is_complete(answer: bytes, is_head: bool) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end or head.startswith(b"HTTP/1.1 1"):
        return False
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    if is_head or re.match(rb"HTTP/1.1 (204|304)", head):
        return True
    if length:
        return len(body) >= int(length[1])
    return b"transfer-encoding" in head.lower() and body.endswith(b"0\r\n\r\n")


_OF_ENVOY = re.compile(
    rb"\r\n(?:x-forwarded-proto|x-request-id|x-envoy-[a-z-]+|date|server|connection|content-length|transfer-encoding)"
    rb":[^\r]*",
    re.I,
)


def without_hop_lines(message: bytes) -> tuple[bytes, list[bytes], bytes]:
    """(first line, names in lower case with values, sorted, body without chunks), without what proxies add."""
    head, _, body = message.partition(b"\r\n\r\n")
    if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I):
        body = _join_chunks(body)
    first, *lines = _OF_ENVOY.sub(b"", head).split(b"\r\n")
    parts = (line.partition(b":") for line in lines)
    return first, sorted(name.lower() + b": " + value.strip(b" \t") for name, _, value in parts), body


def _join_chunks(body: bytes) -> bytes:
    out = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line.partition(b";")[0] or b"0", 16)
        if not size:
            return out
        out, body = out + body[:size], body[size + 2 :]
