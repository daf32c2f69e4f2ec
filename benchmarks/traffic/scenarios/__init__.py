"""The scenarios, in the order of the tables: one file each."""

from __future__ import annotations

from benchmarks.traffic.scenarios import (
    direct,
    kmesh_headers,
    kmesh_http,
    kmesh_l4,
    kmesh_weighted,
    sidecar,
    sidecar_pair,
)

__all__ = ["SCENARIOS"]

SCENARIOS = (
    direct.SCENARIO,
    kmesh_l4.SCENARIO,
    kmesh_http.SCENARIO,
    kmesh_headers.SCENARIO,
    kmesh_weighted.SCENARIO,
    sidecar.SCENARIO,
    sidecar_pair.SCENARIO,
)
