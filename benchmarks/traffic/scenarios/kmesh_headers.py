"""kmesh, with each request routed: 100 routes, of which 99 look at a header first."""

from __future__ import annotations

from benchmarks.traffic.routing import BY_HEADERS
from benchmarks.traffic.scenario import Scenario
from benchmarks.traffic.shared_bridge import run_behind_bridge

__all__ = ["SCENARIO"]

SCENARIO = Scenario(
    name="kmesh-headers",
    run=run_behind_bridge,
    routing=BY_HEADERS,
    is_http_only=True,
    is_enrolled=True,
    is_claimed=True,
)
