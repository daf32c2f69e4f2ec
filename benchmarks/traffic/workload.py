"""What is run against every scenario: a load with its arguments, under the name that results and tables have."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.traffic.topology import ECHO, HTTP, STREAM_BYTES, UPLOAD

__all__ = ["OPEN_CONNECTIONS", "Plan", "Workload", "list_closed", "list_open"]

OPEN_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    repetitions: int = 3
    seconds: float = 4.0
    """Of a sample; streams take what they take."""
    warm_up_s: float = 1.0
    """Before each sample, the same load, not counted."""
    connections: Sequence[int] = (1, 16, 64, 256)
    """Of keep-alive HTTP."""
    reconnecting: int = 16
    """Connections at a time, where each request has one of its own."""
    sizes: Sequence[int] = (64, 16384)
    """Bytes of TCP requests, and of their responses."""
    stream_bytes: int = STREAM_BYTES
    open_shares: Sequence[float] = (0.25, 0.5, 0.75)
    """Rates of the open loop, as shares of the sidecar pair's throughput at OPEN_CONNECTIONS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    name: str
    load: str
    """A module of benchmarks.traffic.loads."""
    arguments: tuple[str, ...]
    """{target} stands for the address that the client connects to."""
    is_http: bool = True

    def command(self, target: str) -> list[str]:
        arguments = [argument.format(target=target) for argument in self.arguments]
        return [sys.executable, "-m", f"benchmarks.traffic.loads.{self.load}", *arguments]


def list_closed(plan: Plan) -> Iterator[Workload]:
    """Those that say how much a scenario can do."""
    times = (f"{plan.warm_up_s:g}", f"{plan.seconds:g}")
    url = f"http://{{target}}:{HTTP}/"
    for count in plan.connections:
        yield Workload(name=f"http-{count}", load="http_closed", arguments=(url, str(count), *times))
    reconnecting = (url, str(plan.reconnecting), *times, "--reconnect")
    yield Workload(name="connection-per-request", load="http_closed", arguments=reconnecting)
    for size in plan.sizes:
        arguments = ("{target}", str(ECHO), str(size), *times)
        yield Workload(name=f"tcp-{size}", load="request_response", arguments=arguments, is_http=False)
    for name, port, direction, path in (("download", HTTP, "down", "/stream"), ("upload", UPLOAD, "up", "/")):
        stream = ("{target}", str(port), direction, path, str(plan.stream_bytes))
        yield Workload(name=name, load="http_stream", arguments=stream)


def list_open(plan: Plan, maximum: float) -> Iterator[Workload]:
    """At shares of `maximum`, in requests per second: those that say how a scenario does at the same work."""
    for share in plan.open_shares:
        rate = f"{max(1.0, maximum * share):.0f}"
        arguments = ("{target}", str(HTTP), str(OPEN_CONNECTIONS), rate, f"{plan.warm_up_s:g}", f"{plan.seconds:g}")
        yield Workload(name=f"open-{share:.0%}".rstrip("%"), load="open_loop", arguments=arguments)
