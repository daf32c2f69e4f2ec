"""The real Envoy's http_inspector is the oracle: which filter chain a connection gets by its first bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kmesh.relay.undetected import Begun, recognise
from tests.support.envoy import run_envoy
from tests.support.resources import (
    endpoint,
    filter_chain,
    http_manager,
    socket_address,
    static_cluster,
    tcp_proxy,
    typed,
)
from tests.support.route_oracle import envoy_ports

_OTHER = b"other chain"
_TIMEOUT_S = 10.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
BEGINNINGS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PROPFIND http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nno header\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET /\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G=T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G-T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    b"GET / HTTP/11\r\nHost: a\r\n\r\n",
    b"GET / http/1.1\r\nHost: a\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / FOO HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"EHLO a\r\n",
    b"SSH-2.0-x\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"*1\r\n$4\r\nPING\r\n",
    bytes.fromhex("160301000401000000"),
    _PREFACE + _SETTINGS,
    _PREFACE[:-1] + b"x" + _SETTINGS,
)


@contextmanager
def listening(*protocols: str) -> Iterator[int]:
    """An Envoy's port: these protocols are answered 418, anything else by what is at the other chain."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(_OTHER)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # bytes that lie unread would make it a reset
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        route = {"match": {"prefix": ""}, "direct_response": {"status": 418}}
        http = filter_chain(
            http_manager([route], http_protocol_options={"accept_http_10": True}),
            filter_chain_match={"application_protocols": protocols},
        )
        front = {
            "name": "front",
            "address": socket_address("127.0.0.1", 0),
            "filter_chains": [http],
            "default_filter_chain": filter_chain(tcp_proxy(cluster="other")),
            "listener_filters": [typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")],
        }
        other = static_cluster(endpoint("127.0.0.1", listener.getsockname()[1]), name="other")
        try:
            with run_envoy({"static_resources": {"listeners": [front], "clusters": [other]}}) as envoy:
                yield envoy_ports(envoy)["front"]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module", params=[("http/1.1", "h2c"), ("http/1.0", "http/1.1", "h2c")], ids=len)
def front(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    """The port, and whether HTTP/1.0 is among what is answered 418: Istio's chains without and with PILOT_HTTP10."""
    with listening(*request.param) as number:
        yield number, "http/1.0" in request.param


@pytest.mark.parametrize("begins", BEGINNINGS)
def test_agrees_with_envoy(front: tuple[int, bool], begins: bytes) -> None:
    port, takes_http10 = front
    others = (Begun.OTHER,) if takes_http10 else (Begun.OTHER, Begun.HTTP10)
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as client:
        client.sendall(begins)
        answered = client.recv(65536)
    assert (recognise(begins) in others) == (answered == _OTHER), answered
    assert (recognise(begins) is Begun.HTTP2) == (answered[3:4] == b"\4" and answered != _OTHER), answered
