"""kmesh, with each request routed: one virtual host, by its name, with one route."""

from __future__ import annotations

from benchmarks.traffic.routing import ONE_HOST
from benchmarks.traffic.scenario import Scenario
from benchmarks.traffic.shared_bridge import run_behind_bridge

__all__ = ["SCENARIO"]

SCENARIO = Scenario(
    name="kmesh-http",
    run=run_behind_bridge,
    routing=ONE_HOST,
    is_http_only=True,
    is_enrolled=True,
    is_claimed=True,
)
