"""What a request costs the real Envoy in CPU time, by the size of its route table.

One Envoy with one worker holds every table, each behind a listener of its own, and answers by direct_response, so
that no upstream is in the figure. Its reading and writing of sockets and its HTTP codec are; what is added over its
own figure for a table of one is routing alone. One request at a time on one kept connection, every answer checked.
Client and Envoy share one CPU: on two, waking each other costs Envoy three times as much as the request.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.figures import say
from benchmarks.route_tables import Ask, Json, Point, Table, list_points, write_head
from tests.support.envoy import Envoy, run_envoy
from tests.support.resources import filter_chain, http_manager, socket_address

__all__ = ["measure_envoy"]

_WARM_UP = 20
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    head: bytes
    status_line: bytes
    """How its answer begins."""


def measure_envoy(tables: Sequence[Table], rounds: int, requests: int) -> dict[Point, list[float]]:
    """CPU time per request, in us, of each round, each of so many requests; the points of a round in random order."""
    samples: dict[Point, list[float]] = {}
    with _one_cpu(), run_envoy(_bootstrap(tables)) as envoy, _connect(envoy, tables) as connections:
        points = [(point, _make_exchanges(point, asks)) for point, asks in list_points(tables)]
        for number in range(rounds):
            say(f"routing: Envoy, round {number + 1}/{rounds}")
            random.shuffle(points)
            for point, exchanges in points:
                connection = connections[point.table]
                _run(connection, exchanges, _WARM_UP)
                before = _cpu_time_ns(envoy.pid)
                _run(connection, exchanges, requests)
                taken = (_cpu_time_ns(envoy.pid) - before) / requests / 1000
                samples.setdefault(point, []).append(taken)
    return samples


def _make_exchanges(point: Point, asks: Sequence[Ask]) -> list[_Exchange]:
    return [
        _Exchange(head=write_head(ask, point.head), status_line=b"HTTP/1.1 %d " % _status(ask.number)) for ask in asks
    ]


@contextmanager
def _one_cpu() -> Iterator[None]:
    """For this process and those that it starts meanwhile."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def _bootstrap(tables: Sequence[Table]) -> Json:
    listeners = [
        {
            "name": table.name,
            "address": socket_address("127.0.0.1", 0),
            "filter_chains": [filter_chain(http_manager(route_config=table.route_config(_answer)))],
        }
        for table in tables
    ]
    return {"static_resources": {"listeners": listeners}}


def _answer(number: int) -> Json:
    return {"direct_response": {"status": _status(number)}}


def _status(number: int) -> int:
    """Tells neighbouring routes apart."""
    return 200 + number % 100


@contextmanager
def _connect(envoy: Envoy, tables: Sequence[Table]) -> Iterator[dict[str, socket.socket]]:
    """A connection for each table, by its name."""
    statuses = json.loads(envoy.get("/listeners?format=json"))["listener_statuses"]
    ports = {status["name"]: status["local_address"]["socket_address"]["port_value"] for status in statuses}
    with ExitStack() as stack:
        connections = {}
        for table in tables:
            connection = socket.create_connection(("127.0.0.1", ports[table.name]), timeout=_TIMEOUT_S)
            connections[table.name] = stack.enter_context(connection)
        yield connections


def _run(connection: socket.socket, exchanges: Sequence[_Exchange], requests: int) -> None:
    for number in range(requests):
        exchange = exchanges[number % len(exchanges)]
        connection.sendall(exchange.head)
        answer = connection.recv(65536)
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(65536)
        assert answer.startswith(exchange.status_line), f"{answer!r} to {exchange}"


def _cpu_time_ns(pid: int) -> int:
    """User and system time of a process: the sum in proc(5) stat, to the nanosecond. Source: clock_getcpuclockid(3),
    whose clock of a process is ~pid << 3 | CPUCLOCK_SCHED."""
    return time.clock_gettime_ns(~pid << 3 | 2)
