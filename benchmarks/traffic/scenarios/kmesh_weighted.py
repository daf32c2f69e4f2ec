"""kmesh, with each request routed: to one of two clusters, by their weights."""

from __future__ import annotations

from benchmarks.traffic.routing import WEIGHTED
from benchmarks.traffic.scenario import Scenario
from benchmarks.traffic.shared_bridge import run_behind_bridge

__all__ = ["SCENARIO"]

SCENARIO = Scenario(
    name="kmesh-weighted",
    run=run_behind_bridge,
    routing=WEIGHTED,
    is_http_only=True,
    is_enrolled=True,
    is_claimed=True,
)
