"""kmesh, with every connection balanced in connect(): the client, enrolled, connects to the service address.

Its HTTP listeners have one route to one cluster, so they too are decided at connect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.traffic.scenario import Running, Scenario
from benchmarks.traffic.topology import PORTS, Lane
from tests.support.bridge import Bridge

__all__ = ["SCENARIO"]


@contextmanager
def _run(lane: Lane, ads: Path) -> Iterator[Running]:
    with Bridge(lane.sandbox, "--xds-server", f"unix:{ads}") as bridge:
        for port in PORTS:
            bridge.wait_until_serves((lane.service, port))
        yield Running(target=lane.service, processes={"bridge": bridge.process.pid})


SCENARIO = Scenario(name="kmesh-l4", run=_run, is_enrolled=True, is_claimed=True)
