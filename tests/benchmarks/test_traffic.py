"""One short run of every load against every scenario, with everything real, so that the benchmark cannot rot."""

from __future__ import annotations

from benchmarks.traffic.run import measure_traffic
from benchmarks.traffic.scenarios import SCENARIOS
from benchmarks.traffic.table import print_traffic
from benchmarks.traffic.workload import Plan

PLAN = Plan(
    repetitions=1,
    seconds=0.1,
    warm_up_s=0.05,
    connections=(64,),
    sizes=(16384,),
    stream_bytes=10_000_000,
    open_shares=(0.25,),
)


def test_every_load_against_every_scenario() -> None:
    result = measure_traffic(PLAN)
    names = [scenario.name for scenario in SCENARIOS]
    wanted = ["http-64", "connection-per-request", "tcp-16384", "download", "upload", "open-25"]
    assert (result["scenarios"], result["workloads"]) == (names, wanted)
    failed = [s for s in result["samples"] if s["errors"] or s["non_2xx"] or not s["requests"]]
    assert not failed
    left_out = sum(scenario.is_http_only for scenario in SCENARIOS)
    assert len(result["samples"]) == len(names) * len(wanted) - left_out
    assert {name: set(sizes) for name, sizes in result["memory_bytes"].items()} == {
        "direct": set(),
        "kmesh-l4": {"bridge", "relay"},
        "kmesh-http": {"bridge", "relay"},
        "kmesh-headers": {"bridge", "relay"},
        "kmesh-weighted": {"bridge", "relay"},
        "sidecar": {"client sidecar"},
        "sidecar-pair": {"client sidecar", "server sidecar"},
    }
    print_traffic(result)
