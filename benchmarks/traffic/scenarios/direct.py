"""No mesh: the client connects to the server pod's own address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.traffic.scenario import Running, Scenario
from benchmarks.traffic.topology import Lane

__all__ = ["SCENARIO"]


@contextmanager
def _run(lane: Lane, ads: Path) -> Iterator[Running]:
    yield Running(target=lane.server)


SCENARIO = Scenario(name="direct", run=_run)
