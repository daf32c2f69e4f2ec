"""A listener as istiod's for an HTTP port: HTTP/1.1 goes by routes, anything else whole to the other filter chain."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.bridge import Bridge
from tests.support.control_plane import ControlPlane
from tests.support.name_server import Address
from tests.support.resources import filter_chain, typed
from tests.support.sandbox import Sandbox
from tests.support.services import captured, http_to, static_cluster, tcp_to

VIP = ("127.96.0.1", 80)
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as client:
    client.sendall(bytes.fromhex(sys.argv[3]))
    try:
        print(client.recv(65536).decode())
    except ConnectionResetError:
        print("reset")
"""
SERVER = """
import socket
with socket.create_server(("127.0.0.31", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"whole " + connection.recv(65536))
"""


@pytest.fixture
def raw(sandbox: Sandbox) -> Iterator[Address]:
    process = sandbox.spawn([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert process.stdout
    yield "127.0.0.31", int(process.stdout.readline())
    process.kill()
    process.wait()


def test_first_bytes_tell(bridge: Bridge, control_plane: ControlPlane, sandbox: Sandbox, raw: Address) -> None:
    routes = [
        {"match": {"prefix": "/teapot"}, "direct_response": {"status": 418}},
        {"match": {"prefix": "/"}, "redirect": {"path_redirect": "/elsewhere"}},
    ]
    hosts = [{"name": "v", "domains": ["*"], "routes": routes}]
    manager = http_to(route_config={"name": "r", "virtual_hosts": hosts})
    match = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    listener = captured(
        "auto",
        VIP,
        filter_chains=[filter_chain(manager, filter_chain_match=match)],
        default_filter_chain=filter_chain(tcp_to("raw")),
        listener_filters=[typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")],
    )
    bridge.wait_until_serves(control_plane.publish(listener, static_cluster("raw", raw)))

    def ask(beginning: bytes) -> str:
        argv = [sys.executable, "-c", CLIENT, VIP[0], str(VIP[1]), beginning.hex()]
        return sandbox.run(argv, enrolled=True)

    assert ask(b"GET /teapot HTTP/1.1\r\nHost: a\r\n\r\n").startswith("HTTP/1.1 418")
    assert "location: http://a/elsewhere" in ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert ask(b"EHLO a\r\n") .startswith("whole EHLO a")
    assert ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == "reset\n"
