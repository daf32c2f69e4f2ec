"""kmesh, with every connection balanced in connect(): the client, enrolled, connects to the service address.

Its HTTP listeners have one route to one cluster for whatever comes, so they too are decided at connect.
"""

from __future__ import annotations

from benchmarks.traffic.scenario import Scenario
from benchmarks.traffic.shared_bridge import run_behind_bridge

__all__ = ["SCENARIO"]

SCENARIO = Scenario(name="kmesh-l4", run=run_behind_bridge, is_enrolled=True, is_claimed=True)
