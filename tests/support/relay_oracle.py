"""What the real Envoy sends on and answers under many route configurations at once, and what the relay would.

One Envoy holds a listener for each case; the clusters' backends are sockets here, which answer with what they were
sent. Compared are heads without what Envoy adds of its own, as a proxy hop.
"""

from __future__ import annotations

import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kmesh.compiler.ir import Routing
from kmesh.compiler.semantics import Request
from kmesh.model.joined_headers import JOINED_HEADERS
from kmesh.model.match import MILLION
from kmesh.relay.configuration import ClusterOptions, Configuration
from kmesh.relay.decide import Decision, Refused, Reply, ToCluster, decide
from tests.support.envoy import run_envoy
from tests.support.resources import filter_chain, http_manager, socket_address, static_cluster
from tests.support.route_oracle import CLUSTERS, Case, decode_case, envoy_ports, fill_port, write_request

__all__ = ["Seen", "ask_envoy", "ask_relay"]

_TIMEOUT_S = 10.0
_ROUTING = 7
_OF_A_HOP = frozenset(
    (
        *("connection", "content-length", "date", "server", "x-envoy-expected-rq-timeout-ms"),
        *("x-envoy-upstream-service-time", "x-forwarded-proto", "x-request-id", "transfer-encoding"),
    )
)
_ANSWER_HEAD = b"HTTP/1.1 200 OK\r\nx-cluster: %s\r\nx-a: of the server\r\nContent-Type: text/plain\r\n\r\n"

Headers = dict[str, list[bytes]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the client got, and where the request was sent on, what the server got."""

    status: int
    headers: Headers
    body: bytes = b""
    """Of an answer of the proxy's own."""
    closes: bool = False
    cluster: str = ""
    sent: tuple[bytes, Headers] = (b"", {})
    """(request line, headers)."""


def ask_envoy(cases: list[Case]) -> Iterator[tuple[int, list[Seen]]]:
    """For each case the port it was asked on, and what came of each request."""
    with tempfile.TemporaryDirectory(prefix="kmesh-oracle-") as name, _backends(Path(name)):
        fronts = [_front(case, f"case-{number}") for number, case in enumerate(cases)]
        clusters = [
            static_cluster({"endpoint": {"address": {"pipe": {"path": str(Path(name) / cluster)}}}}, name=cluster)
            for cluster in CLUSTERS
        ]
        with run_envoy({"static_resources": {"listeners": fronts, "clusters": clusters}}) as envoy:
            ports = envoy_ports(envoy)
            for number, case in enumerate(cases):
                port = ports[f"case-{number}"]
                yield port, [_ask(port, request) for request in fill_port(case.requests, port)]


def ask_relay(case: Case, port: int, envoys: list[Seen]) -> Iterator[Seen | Refused]:
    """The relay's decisions, where it has a choice drawn as Envoy drew."""
    manager = decode_case(case)
    assert manager.route_config
    routing = Routing(name="r", config=manager.route_config, normalization=manager.normalization)
    clusters = {name: ClusterOptions(id=number) for number, name in enumerate(CLUSTERS, 1)}
    configuration = Configuration(routings={_ROUTING: routing}, clusters=clusters)
    for request, envoy in zip(fill_port(case.requests, port), envoys, strict=True):
        yield _carry(_decide_as(configuration, request, port, envoy.cluster), request)


def _decide_as(configuration: Configuration, request: Request, port: int, cluster: str) -> Decision:
    """The decision for the first draw that leads to `cluster`, or for the last."""
    for drawn in range(12):
        draws = partial(_draw, drawn)
        decision = decide(configuration, _ROUTING, request, port, draws)
        if not isinstance(decision, ToCluster) or decision.name == cluster:
            break
    return decision


def _draw(drawn: int, below: int) -> int:
    return 0 if below == MILLION else min(drawn, below - 1)


def _carry(decision: Decision, request: Request) -> Seen | Refused:
    match decision:
        case Refused():
            return decision
        case Reply():
            head = b"".join(b"\r\n%s: %s" % header for header in decision.headers)
            body = b"" if request.method == b"HEAD" else decision.body
            return Seen(status=decision.status, headers=_headers(head), body=body, closes=decision.closes)
        case ToCluster():
            head, answer = write_request(request), _ANSWER_HEAD % decision.name.encode()
            head = decision.rewrite_request(head) if decision.rewrite_request else head
            answer = decision.rewrite_answer(answer) if decision.rewrite_answer else answer
            return Seen(
                status=200,
                headers=_headers(answer),
                cluster=decision.name,
                sent=(head.partition(b"\r\n")[0], _headers(head)),
            )


# Envoy


def _front(case: Case, name: str) -> dict[str, Any]:
    manager = http_manager(route_config={"name": "r", "validate_clusters": False, **case.routes}, **case.options)
    return {"name": name, "address": socket_address("127.0.0.1", 0), "filter_chains": [filter_chain(manager)]}


def _ask(port: int, request: Request) -> Seen:
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as client:
        client.sendall(write_request(request))
        head, body = _receive(client)
        length = re.search(rb"content-length: (\d+)", head)
        while length and request.method != b"HEAD" and len(body) < int(length[1]):
            body += client.recv(65536)
    cluster = re.search(rb"x-backend: (c\d)", head)
    seen = Seen(
        status=int(head.split()[1]),
        headers=_headers(re.sub(rb"\r\nx-backend: c\d", b"", head)),
        body=b"" if cluster else body,
        closes=b"connection: close" in head,
        cluster=cluster[1].decode() if cluster else "",
        sent=(body.partition(b"\r\n")[0], _headers(body)) if cluster else (b"", {}),
    )
    return seen


def _headers(head: bytes) -> Headers:
    out: Headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and name.decode().lower() not in _OF_A_HOP:
            out.setdefault(name.decode().lower(), []).append(value.strip())
    for name in JOINED_HEADERS & out.keys():
        out[name] = [b",".join(value for value in out[name] if value)]
    return out


def _receive(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        assert more, f"the connection ended after {received!r}"
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


@contextmanager
def _backends(directory: Path) -> Iterator[None]:
    """One server for each cluster: it answers one request on each connection with the head it got."""
    listeners = []
    for name in CLUSTERS:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / name))
        listener.listen(128)
        listeners.append(listener)
        threading.Thread(target=_serve, args=(listener, name.encode()), daemon=True).start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _serve(listener: socket.socket, name: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(_TIMEOUT_S)
            head, _ = _receive(connection)
            answer = (_ANSWER_HEAD % name).replace(b"\r\n\r\n", b"\r\nx-backend: %s\r\nConnection: close\r\n" % name)
            body = b"" if head.startswith(b"HEAD ") else head
            connection.sendall(b"%sContent-Length: %d\r\n\r\n%s" % (answer, len(head), body))
