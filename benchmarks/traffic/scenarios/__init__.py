"""The scenarios, in the order of the tables: one file each."""

from __future__ import annotations

from benchmarks.traffic.scenarios import direct, kmesh_l4, sidecar, sidecar_pair

__all__ = ["SCENARIOS"]

SCENARIOS = (direct.SCENARIO, kmesh_l4.SCENARIO, sidecar.SCENARIO, sidecar_pair.SCENARIO)
