"""From an xDS server to effect: the bridge against the real Envoy, from one and the same server process.

`python -m benchmarks.convergence [--quick]`. Each round runs one client after the other against a server that has
been up all along. Measured, per client and round:

- convergence: from the first request of its stream, as the server saw it, until everything is in force. For the
  bridge that is the end of the apply that wrote the last record, with the programs attached; for Envoy the moment its
  last cluster is warm. The listeners that it has not got by then count in "listening", and not in the ratio.
- memory: RSS and PSS of the process, _SETTLE_S after that.
- one change: an endpoint of one service moves; from the moment the server hands out the response until a client has
  the new endpoint's first answer, found by connecting in a loop, whose interval is the resolution (poll_ms in the
  samples). "from publish" counts what the server itself needs too, which is the same for both.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from benchmarks.clients import BridgeClient, Client, Memory, run_client
from benchmarks.figures import print_table, say, spread, summarize
from benchmarks.mesh_server import Job, Probe
from benchmarks.server_process import ServerProcess, serve
from tests.support.sandbox import Sandbox

__all__ = ["Plan", "measure_convergence", "print_convergence"]

CLIENTS = ("bridge", "envoy")
_SETTLE_S = 3.0
_BETWEEN_CHANGES_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    services: int = 1000
    endpoints: Sequence[int] = (10, 100)
    variants: Sequence[str] = ("sotw", "delta")
    rounds: int = 5
    changes: int = 20
    """In each round."""


QUICK = Plan(variants=("delta",), rounds=1, changes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """Of one client at one size in one variant."""

    converged_s: list[float] = field(default_factory=list)
    listening_s: list[float] = field(default_factory=list)
    """Envoy only."""
    change_ms: list[float] = field(default_factory=list)
    change_from_publish_ms: list[float] = field(default_factory=list)
    poll_ms: list[float] = field(default_factory=list)
    """The interval at which changes were looked for."""
    memory: list[Memory] = field(default_factory=list)


_Key = tuple[str, int, str]
"""(variant, endpoints, client)"""


def measure_convergence(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples, summaries and ratios."""
    samples: dict[_Key, _Samples] = {}
    for endpoints in plan.endpoints:
        with Sandbox() as sandbox, _backends() as ports, serve(sandbox, _make_job(plan, endpoints, ports)) as server:
            for number, variant, client in _list_runs(plan):
                where = f"round {number + 1}/{plan.rounds}, {variant}, {client}"
                say(f"convergence: {plan.services} services x {endpoints}, {where}")
                key = (variant, endpoints, client)
                _measure_client(server, plan, variant, client, samples.setdefault(key, _Samples()))
    return _conclude(plan, samples)


def _list_runs(plan: Plan) -> Iterator[tuple[int, str, str]]:
    """(round, variant, client). Each client goes first every other time."""
    for number, variant in product(range(plan.rounds), plan.variants):
        for client in CLIENTS if number % 2 == 0 else CLIENTS[::-1]:
            yield number, variant, client


def print_convergence(result: dict[str, Any]) -> None:
    plan = result["plan"]
    head = ["mesh and variant", "converged s: bridge", "Envoy", "(listening)", "one change ms: bridge", "Envoy"]
    head += ["RSS MiB: bridge", "Envoy"]
    rows = []
    for endpoints in plan["endpoints"]:
        for variant in plan["variants"]:
            bridge, envoy = (result["samples"][f"{variant} x{endpoints} {client}"] for client in CLIENTS)
            rows.append(
                [
                    f"{plan['services']} services x {endpoints}, {variant}",
                    spread(bridge["converged_s"], 2),
                    spread(envoy["converged_s"], 2),
                    spread(envoy["listening_s"], 2),
                    spread(bridge["change_ms"], 2),
                    spread(envoy["change_ms"], 2),
                    spread([m["rss"] / 1024 for m in bridge["memory"]], 0),
                    spread([m["rss"] / 1024 for m in envoy["memory"]], 0),
                ]
            )
    print("median (min to max)")
    print_table(head, rows)
    print_table(
        ["bridge / Envoy", "target", *(f"x{e} {v}" for e in plan["endpoints"] for v in plan["variants"])],
        [
            [name, target, *(f"{ratio:.2f}" for ratio in result["ratios"][name].values())]
            for name, target in result["targets"].items()
        ],
    )


# One client


def _measure_client(server: ServerProcess, plan: Plan, variant: str, name: str, into: _Samples) -> None:
    with Sandbox() as sandbox, run_client(name, sandbox, server.port, variant) as client:
        opened_at = server.wait_for("stream opened")["at"]
        converged = client.wait_converged(plan.services)
        into.converged_s.append(converged["in force"] - opened_at)
        if "listening" in converged:
            into.listening_s.append(converged["listening"] - opened_at)
        time.sleep(_SETTLE_S)
        into.memory.append(Memory.of(client.pid))
        _measure_changes(server, plan, sandbox, client, into)


def _measure_changes(server: ServerProcess, plan: Plan, sandbox: Sandbox, client: Client, into: _Samples) -> None:
    probe = server.job.probe
    assert probe
    argv = [sys.executable, "-m", "benchmarks.prober", probe.address, str(probe.port)]
    prober = sandbox.spawn(
        argv, enrolled=isinstance(client, BridgeClient), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert prober.stdin and prober.stdout
    for _ in range(plan.changes):
        prober.stdin.write(f"{1 - server.turn}\n")
        prober.stdin.flush()
        prober.stdout.readline()
        time.sleep(_BETWEEN_CHANGES_S)
        server.move_probe()
        published_at = server.wait_for("published")["at"]
        sent_at = server.wait_for("response")["at"]
        seen = json.loads(prober.stdout.readline())
        into.change_ms.append((seen["at"] - sent_at) * 1000)
        into.change_from_publish_ms.append((seen["at"] - published_at) * 1000)
        into.poll_ms.append(seen["interval_s"] * 1000)
    prober.stdin.close()
    prober.wait(10)


# What the probe service leads to


def _make_job(plan: Plan, endpoints: int, ports: tuple[int, int]) -> Job:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    probe = Probe(address="127.0.0.1", port=port, endpoint="127.0.0.1", endpoint_ports=ports)
    return Job(services=plan.services, endpoints=endpoints, endpoint_port=ports[0], probe=probe)


@contextmanager
def _backends() -> Iterator[tuple[int, int]]:
    """Two servers that say their number to whoever connects. Yields their ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for number, listener in enumerate(listeners):
        threading.Thread(target=_answer, args=(listener, str(number).encode()), daemon=True).start()
    try:
        yield listeners[0].getsockname()[1], listeners[1].getsockname()[1]
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _answer(listener: socket.socket, number: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(number)


# Conclusions


def _conclude(plan: Plan, samples: dict[_Key, _Samples]) -> dict[str, Any]:
    targets = {
        "convergence": "<= 1",
        "one change": "<= 0.5",
        "one change, from publish": "",
        "RSS": "<= 1",
        "PSS": "<= 1",
    }
    ratios: dict[str, dict[str, float]] = {name: {} for name in targets}
    for endpoints in plan.endpoints:
        for variant in plan.variants:
            bridge, envoy = (_medians(samples[variant, endpoints, client]) for client in CLIENTS)
            for name in targets:
                ratios[name][f"x{endpoints} {variant}"] = round(bridge[name] / envoy[name], 3)
    named = {f"{variant} x{endpoints} {client}": found for (variant, endpoints, client), found in samples.items()}
    return {
        "plan": asdict(plan),
        "targets": targets,
        "ratios": ratios,
        "samples": {name: asdict(found) for name, found in named.items()},
        "summaries": {name: _summarize(found) for name, found in named.items()},
    }


def _medians(found: _Samples) -> dict[str, float]:
    return {
        "convergence": statistics.median(found.converged_s),
        "one change": statistics.median(found.change_ms),
        "one change, from publish": statistics.median(found.change_from_publish_ms),
        "RSS": statistics.median(m.rss for m in found.memory),
        "PSS": statistics.median(m.pss for m in found.memory),
    }


def _summarize(found: _Samples) -> dict[str, Any]:
    rows = {name: values for name, values in asdict(found).items() if values and name != "memory"}
    rows |= {"rss_kib": [m.rss for m in found.memory], "pss_kib": [m.pss for m in found.memory]}
    return {name: summarize(values) for name, values in rows.items()}


def main() -> None:
    print_convergence(measure_convergence(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
