"""What a connect() costs through the program, beside one without, at several sizes of the mesh.

`python -m benchmarks.connect_latency [--quick]`. A ladder, each rung a kind of connect() in one and the same process
(benchmarks.connector), to the same backends:

    direct          from a cgroup without programs, to a backend
    empty program   from a cgroup whose program does nothing, to a backend
    not a service   from the enrolled cgroup, to a backend: looked up, not found, left alone
    service         from the enrolled cgroup, to a service: looked up, an endpoint chosen, rewritten

Each round takes a batch of every kind, in random order, and gives each kind's median over its batch; a ratio is
formed within a round, and what is reported is the median of the rounds. A bridge holds the configuration, loaded from
an ADS server, and idles. Program time is what the kernel itself counts around each run, in rounds of their own, for
counting has a price.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.clients import run_bridge
from benchmarks.connector import Job, Kind
from benchmarks.figures import print_table, say, summarize
from benchmarks.mesh_server import Job as Mesh
from benchmarks.server_process import serve
from kmesh.kernel import bpf
from kmesh.kernel.bpf import AttachType
from tests.support.sandbox import BPFFS, Sandbox

__all__ = ["Plan", "measure_connect", "print_connect"]

_DIRECT, _EMPTY, _ABSENT, _SERVICE = "direct", "empty program", "not a service", "service"
_RETURN_1 = b"\xb7\0\0\0\1\0\0\0\x95\0\0\0\0\0\0\0"
_SAMPLE = 20
"""Services that are connected to, drawn at random; all of them, if there are fewer."""
_RUN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    services: Sequence[int] = (10, 100, 1000, 10_000)
    endpoints: int = 10
    """Of each service."""
    rounds: int = 150
    batch: int = 200
    warm_up: int = 40
    """Of each batch, not counted."""


QUICK = Plan(services=(10, 1000), rounds=60)


def measure_connect(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples, summaries and ratios."""
    samples = {services: _measure_size(plan, services) for services in plan.services}
    return {
        "plan": asdict(plan),
        "targets": {"service / direct": "<= 1.05, flat"},
        "ratios": {
            f"{kind} / {_DIRECT}": {
                f"{services} services": round(statistics.median(_ratios(found["rounds"], kind)), 4)
                for services, found in samples.items()
            }
            for kind in (_EMPTY, _ABSENT, _SERVICE)
        },
        "samples": {str(services): found for services, found in samples.items()},
        "summaries": {
            str(services): {kind: summarize([r[kind] for r in found["rounds"]]) for kind in found["rounds"][0]}
            for services, found in samples.items()
        },
    }


def print_connect(result: dict[str, Any]) -> None:
    kinds = (_DIRECT, _EMPTY, _ABSENT, _SERVICE)
    rows = []
    for services, found in result["samples"].items():
        rounds = found["rounds"]
        rows.append(
            [
                f"{services} services",
                *(f"{statistics.median(r[kind] for r in rounds) / 1000:.2f}" for kind in kinds),
                *(_print_ratio(_ratios(rounds, kind)) for kind in kinds[1:]),
                *(f"{found['program_ns'][kind]:.0f}" for kind in kinds[1:]),
            ]
        )
    head = ["connect() us:", *kinds, *(f"{kind} / direct" for kind in kinds[1:])]
    print("medians of rounds; ratios with their quartiles; ns in the program, per run, as the kernel counts")
    print_table([*head, "ns: empty", "not a service", "service"], rows)


def _ratios(rounds: Sequence[dict[str, float]], kind: str) -> list[float]:
    return [r[kind] / r[_DIRECT] for r in rounds]


def _print_ratio(ratios: Sequence[float]) -> str:
    found = summarize(ratios)
    return f"{found['median']:.3f} ({found['q1']:.3f} to {found['q3']:.3f})"


# One size of the mesh


def _measure_size(plan: Plan, services: int) -> dict[str, Any]:
    say(f"connect(): {services} services")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mesh = Mesh(services=services, endpoints=plan.endpoints, endpoint_port=port)
    with (
        Sandbox() as sandbox,
        serve(sandbox, mesh) as server,
        run_bridge(sandbox, server.port, "delta") as bridge,
        _empty_program(sandbox) as empty_fd,
    ):
        bridge.wait_converged(services)
        kinds = _make_kinds(sandbox, mesh)
        job = Job(kinds=kinds, port=port, rounds=plan.rounds, batch=plan.batch, warm_up=plan.warm_up)
        rounds = _run(sandbox, job)
        programs = {_EMPTY: (empty_fd, kinds[1])}
        fd = bpf.get_object(next((BPFFS / "kmesh" / sandbox.instance).glob("progs-*")) / "km_connect4")
        programs |= {kind.name: (fd, kind) for kind in kinds[2:]}
        program_ns = {name: _time_program(sandbox, job, fd, kind) for name, (fd, kind) in programs.items()}
        os.close(fd)
    return {"rounds": rounds, "program_ns": program_ns}


def _make_kinds(sandbox: Sandbox, mesh: Mesh) -> list[Kind]:
    sample = random.sample(range(mesh.services), min(_SAMPLE, mesh.services))
    backends = [(address, mesh.endpoint_port) for index in sample for address in mesh.endpoint_addresses(index)]
    services = [(mesh.service_address(index), 80) for index in sample]
    return [
        Kind(name=_DIRECT, cgroup=str(sandbox.mesh), addresses=backends),
        Kind(name=_EMPTY, cgroup=str(sandbox.mesh / "empty"), addresses=backends),
        Kind(name=_ABSENT, cgroup=str(sandbox.pods), addresses=backends),
        Kind(name=_SERVICE, cgroup=str(sandbox.pods), addresses=services),
    ]


def _run(sandbox: Sandbox, job: Job) -> list[dict[str, float]]:
    """Each round's medians, in ns."""
    argv = [sys.executable, "-m", "benchmarks.connector"]
    process = sandbox.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(job.to_line(), timeout=_RUN_S)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def _time_program(sandbox: Sandbox, job: Job, fd: int, kind: Kind) -> float:
    """Mean ns of one run for this kind of connect() alone, the kernel's clock reading included."""
    stats = bpf.enable_run_stats()
    before = bpf.prog_info(fd)
    _run(sandbox, Job(kinds=[kind], port=job.port, rounds=max(1, job.rounds // 5), batch=job.batch, warm_up=0))
    after = bpf.prog_info(fd)
    os.close(stats)
    return (after.run_time_ns - before.run_time_ns) / (after.run_count - before.run_count)


@contextmanager
def _empty_program(sandbox: Sandbox) -> Iterator[int]:
    """A program that lets every connect pass, attached to a cgroup of its own. Yields its descriptor."""
    cgroup = sandbox.mesh / "empty"
    cgroup.mkdir()
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    program = bpf.load_program(_RETURN_1, AttachType.CONNECT4)
    link = bpf.create_link(program, target, AttachType.CONNECT4)
    try:
        yield program
    finally:
        for fd in (link, program, target):
            os.close(fd)


def main() -> None:
    print_connect(measure_connect(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
