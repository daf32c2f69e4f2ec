"""One sidecar hop: an Envoy beside the client, none beside the server."""

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
    with run_sidecar(lane.sandbox, lane.client_pod, ads) as client:
        yield Running(target=lane.service, processes={"client sidecar": client})


SCENARIO = Scenario(name="sidecar", run=_run)
