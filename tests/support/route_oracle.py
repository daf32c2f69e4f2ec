"""What the real Envoy makes of requests under many route configurations at once, and what the semantics here say.

One Envoy holds a listener for each case, on a port of its own; the clusters' backends are listeners of the same Envoy
that answer with the cluster's name.
"""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmesh.compiler.semantics import Reply, Request, Routed, ToCluster, ToOneOf, route_request
from kmesh.model.listener import HttpConnectionManager, Listener
from kmesh.xds.resources import listener
from tests.support.envoy import Envoy, run_envoy
from tests.support.resources import encode, filter_chain, http_manager, socket_address, static_cluster

__all__ = ["CLUSTERS", "PORT_MARK", "Answer", "Case", "answer_here", "ask_envoy", "ask_head", "decode_case"]
__all__ += ["envoy_ports", "fill_port", "run_oracle", "write_request"]

CLUSTERS = ("c0", "c1", "c2", "c3")
PORT_MARK = b"{port}"
"""In a request: the port that is connected to."""
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A route configuration (as JSON), options of the connection manager, and requests."""

    routes: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    clusters: frozenset[str] = frozenset()
    """The one that answered, or those that could; empty for an answer of the proxy's own."""
    location: bytes | None = None

    is_grpc: bool = False
    """Carries a grpc-status: how Envoy writes any answer of its own to a gRPC request, as 200 and often no more."""

    def agrees_with(self, envoy: Answer) -> bool:
        """Whether this answer, found here, is Envoy's."""
        if envoy.clusters:
            return envoy.clusters <= self.clusters
        if envoy.is_grpc:
            return not self.clusters and envoy.location in (None, self.location)
        return not self.clusters and (self.status, self.location) == (envoy.status, envoy.location)


# Here


def decode_case(case: Case) -> HttpConnectionManager:
    decoded = listener.TYPE.decode(encode("LDS", _front(case, 1)))[1]
    assert isinstance(decoded, Listener)
    manager = decoded.filter_chains[0].network
    assert isinstance(manager, HttpConnectionManager)
    return manager


def answer_here(case: Case, port: int) -> list[Answer | None]:
    """None where nothing here can tell."""
    manager = decode_case(case)
    assert manager.route_config
    routed = (
        route_request(manager.route_config, manager.normalization, request, port=port)
        for request in fill_port(case.requests, port)
    )
    return list(map(_to_answer, routed))


def _to_answer(routed: Routed) -> Answer | None:
    match routed.outcome:
        case Reply(status=status, location=location):
            return Answer(status=status, location=location)
        case ToCluster(name) if name in CLUSTERS:
            return Answer(status=200, clusters=frozenset((name,)))
        case ToCluster():
            return Answer(status=503)
        case ToOneOf(clusters):
            return Answer(status=200, clusters=frozenset(weighted.name for weighted in clusters))
        case _:
            return None


def fill_port(requests: Iterable[Request], port: int) -> Iterator[Request]:
    """With the port in place of its mark."""
    text = str(port).encode()
    for request in requests:
        headers = tuple((name, value.replace(PORT_MARK, text)) for name, value in request.headers)
        target = request.target.replace(PORT_MARK, text)
        yield Request(method=request.method, target=target, headers=headers)


# In Envoy


def ask_envoy(cases: list[Case]) -> list[tuple[int, list[Answer]]]:
    """For each case the port it was asked on, and Envoy's answers."""
    with run_oracle(cases) as ports:
        return [(port, _exchange_all(port, case.requests)) for port, case in zip(ports, cases, strict=True)]


@contextmanager
def run_oracle(cases: list[Case]) -> Iterator[list[int]]:
    """An Envoy that has all of them, each on the port that is given for it."""
    with tempfile.TemporaryDirectory(prefix="kmesh-oracle-") as name, run_envoy(_bootstrap(cases, name)) as envoy:
        ports = envoy_ports(envoy)
        yield [ports[f"case-{number}"] for number in range(len(cases))]


def ask_head(port: int, head: bytes) -> Answer:
    """Envoy's answer to one request, as the bytes of its head, on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(head)
        return _read_answer(connection)[0]


def _bootstrap(cases: list[Case], directory: str) -> dict[str, Any]:
    fronts = [_front(case, 0, f"case-{number}") for number, case in enumerate(cases)]
    return {
        "static_resources": {
            "listeners": fronts + [_backend(name, directory) for name in CLUSTERS],
            "clusters": [_cluster(name, directory) for name in CLUSTERS],
        },
    }


def _front(case: Case, port: int, name: str = "case") -> dict[str, Any]:
    manager = http_manager(route_config={"name": "r", "validate_clusters": False, **case.routes}, **case.options)
    chains = [filter_chain(manager)]
    return {"name": name, "address": socket_address("127.0.0.1", port), "filter_chains": chains}


def _backend(name: str, directory: str) -> dict[str, Any]:
    route = {
        "match": {"prefix": ""},
        "direct_response": {"status": 200},
        "response_headers_to_add": [{"header": {"key": "x-cluster", "value": name}}],
    }
    return {
        "name": f"backend-{name}",
        "address": {"pipe": {"path": str(Path(directory) / name)}},
        "filter_chains": [filter_chain(http_manager([route]))],
    }


def _cluster(name: str, directory: str) -> dict[str, Any]:
    return static_cluster({"endpoint": {"address": {"pipe": {"path": str(Path(directory) / name)}}}}, name=name)


def envoy_ports(envoy: Envoy) -> dict[str, int]:
    """By name of the listener; of those that have one."""
    statuses = json.loads(envoy.get("/listeners?format=json"))["listener_statuses"]
    addresses = {status["name"]: status["local_address"] for status in statuses}
    return {
        name: address["socket_address"]["port_value"] for name, address in addresses.items() if "pipe" not in address
    }


def _exchange_all(port: int, requests: Iterable[Request]) -> list[Answer]:
    answers: list[Answer] = []
    connection: socket.socket | None = None
    for request in fill_port(requests, port):
        connection = connection or socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        connection.sendall(write_request(request))
        answer, is_open = _read_answer(connection)
        answers.append(answer)
        if not is_open:
            connection.close()
            connection = None
    if connection:
        connection.close()
    return answers


def write_request(request: Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method, request.target)]
    lines += [b"%s: %s" % header for header in request.headers]
    return b"\r\n".join([*lines, b"", b""])


def _read_answer(connection: socket.socket) -> tuple[Answer, bool]:
    """The answer, and whether the connection stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        assert more, f"Envoy closed the connection after {received!r}"
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines if b": " in line)
    length = int(headers.get(b"content-length", b"0"))
    while len(body) < length:
        body += connection.recv(65536)
    cluster = headers.get(b"x-cluster", b"").decode()
    location = next((line[10:] for line in lines if line.lower().startswith(b"location: ")), None)
    answer = Answer(
        status=int(status_line.split()[1]),
        clusters=frozenset((cluster,) if cluster else ()),
        location=location,
        is_grpc=b"grpc-status" in headers,
    )
    return answer, headers.get(b"connection") != b"close"
