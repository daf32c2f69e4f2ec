"""A sidecar pair, as Istio has it: an Envoy beside the client and one beside the server, in plaintext."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.traffic.scenario import Running, Scenario
from benchmarks.traffic.sidecar import run_sidecar
from benchmarks.traffic.topology import Lane

__all__ = ["SCENARIO"]


@contextmanager
def _run(lane: Lane, ads: Path) -> Iterator[Running]:
    with (
        run_sidecar(lane.sandbox, lane.client_pod, ads) as client,
        run_sidecar(lane.sandbox, lane.server_pod, ads) as server,
    ):
        yield Running(target=lane.service, processes={"client sidecar": client, "server sidecar": server})


SCENARIO = Scenario(name="sidecar-pair", run=_run)
