"""Memory of the mesh on a node, by the number of its pods: a sidecar for each, or one bridge for all.

`python -m benchmarks.pods [--quick]`, as root. Both have the same configuration in force (benchmarks.node), and every
pod has had its first request answered; then they idle. Measured:

- sidecars: PSS and RSS of every Envoy, summed, from /proc/PID/smaps_rollup. PSS counts memory that processes share
  once, so the program's text is not counted for every sidecar, as it is in RSS.
- kmesh: PSS and RSS of the bridge, the relay and its keeper, and what the kernel charges for the maps that are
  filled by configuration. With a pod nothing is started; its cgroup inherits the programs. Each pod asks a service
  whose connections are balanced at connect(), and one whose requests are routed one by one.

What the pods' own processes, the ADS server and the network need is in neither. Sidecars that would not fit into this
machine's free memory are not started: their figures are then drawn on from the two largest numbers that were
measured, and listed as extrapolated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import Memory
from benchmarks.figures import print_table, say
from benchmarks.node import HTTP_VIP, SIDECAR, VIP, Node, run_node
from kmesh.relay.record import read_record
from tests.support.bridge import Bridge

__all__ = ["Plan", "measure_pods", "print_pods"]

KMESH, ENVOY = "kmesh", "sidecars"
_CLAIM = 0.3
"""At least 70 % lower."""
_CLAIM_PODS = 10
_SETTLE_S = 3.0
_RESERVE = 1 << 30
"""Bytes to leave free."""

_Figures = dict[str, int]
"""Bytes: "pss", "rss", and "maps" where there are any."""
_Sides = dict[str, dict[int, _Figures]]
"""By side and number of pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    services: Sequence[int] = (100, 1000)
    pods: Sequence[int] = (1, 10, 50)


QUICK = Plan(services=(100,), pods=(1, 10))


def measure_pods(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns bytes by number of pods, ratios and the claim on them."""
    extrapolated: list[str] = []
    found = {services: _measure_mesh(plan, services, extrapolated) for services in plan.services}
    return _conclude(plan, found, extrapolated)


def print_pods(result: dict[str, Any]) -> None:
    print("memory by pods of a node; MiB")
    rows = [
        [
            f"{services}, {count} pods",
            *(f"{_sum(sides[side][count], kind) / 2**20:.1f}" for side, kind in _COLUMNS),
        ]
        for services, sides in result["bytes"].items()
        for count in sides[KMESH]
    ]
    print_table(["", *(f"{side}: {kind.upper()}" for side, kind in _COLUMNS)], rows)
    if result["extrapolated"]:
        print(f"extrapolated, as so many sidecars do not fit into memory: {', '.join(result['extrapolated'])}\n")


_COLUMNS = [(side, kind) for kind in ("pss", "rss") for side in (KMESH, ENVOY)]


def _sum(figures: _Figures, kind: str) -> int:
    """Of processes, by `kind`, and of the kernel's maps."""
    return figures[kind] + figures.get("maps", 0)


# Measuring


def _measure_mesh(plan: Plan, services: int, extrapolated: list[str]) -> _Sides:
    """Adds to `extrapolated` what was not measured."""
    say(f"memory: {services} services")
    with run_node([f"pod{number}" for number in range(max(plan.pods))], services) as node:
        found = {KMESH: _measure_bridge(node, plan), ENVOY: _measure_sidecars(node, plan)}
    missing = [count for count in plan.pods if count not in found[ENVOY]]
    found[ENVOY] |= {count: _extrapolate(found[ENVOY], count) for count in missing}
    extrapolated += [f"{services} services, {count} pods" for count in missing]
    return found


def _measure_bridge(node: Node, plan: Plan) -> dict[int, _Figures]:
    found: dict[int, _Figures] = {}
    with ExitStack() as stack:
        bridge = stack.enter_context(node.bridge())
        for number, pod in enumerate(node.pods, start=1):
            _enrol(node, pod, stack)
            if number in plan.pods:
                say(f"memory: the bridge, {number} pods")
                time.sleep(_SETTLE_S)
                found[number] = _weigh(_processes(bridge)) | {"maps": _map_bytes(bridge)}
    return found


def _enrol(node: Node, pod: str, stack: ExitStack) -> None:
    """The cgroup stays, with the pod's first request answered."""
    cgroup = stack.enter_context(node.pod_cgroup(pod))
    with node.asker(pod) as asker:
        asker.move(cgroup)
        for address in (VIP, HTTP_VIP):
            asker.begin(address)
            asker.wait()


def _processes(bridge: Bridge) -> list[int]:
    record = read_record(bridge.socket.with_suffix(".relay"))
    assert record and record.journal and record.journal.keeper, "there is no relay"
    return [bridge.process.pid, record.relay.pid, record.journal.keeper.pid]


def _map_bytes(bridge: Bridge) -> int:
    return sum(int(found["bytes"]) for found in bridge.status()["maps"])


def _measure_sidecars(node: Node, plan: Plan) -> dict[int, _Figures]:
    """As many as fit."""
    found: dict[int, _Figures] = {}
    pids: list[int] = []
    with ExitStack() as stack:
        for count in plan.pods:
            if pids and not _fits(pids, count):
                break
            for pod in node.pods[len(pids) : count]:
                pids.append(_start_sidecar(node, pod, stack))
            say(f"memory: {count} sidecars")
            time.sleep(_SETTLE_S)
            found[count] = _weigh(pids)
    return found


def _start_sidecar(node: Node, pod: str, stack: ExitStack) -> int:
    """It stays, with the pod's first request answered."""
    with node.asker(pod) as asker:
        asker.begin(SIDECAR)
        pid = stack.enter_context(node.sidecar(pod))
        asker.wait()
    return pid


def _fits(pids: Sequence[int], count: int) -> bool:
    """Whether there is room for as many, judged by the RSS of those that run."""
    more = (count - len(pids)) * _weigh(pids)["rss"] // len(pids)
    return more + _RESERVE < _available()


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def _weigh(pids: Sequence[int]) -> _Figures:
    found = [Memory.of(pid) for pid in pids]
    return {"pss": 1024 * sum(one.pss for one in found), "rss": 1024 * sum(one.rss for one in found)}


# Conclusions


def _extrapolate(found: dict[int, _Figures], count: int) -> _Figures:
    """On the line through the two largest that were measured."""
    *_, less, more = sorted(found)
    return {
        kind: round(found[more][kind] + (count - more) * (found[more][kind] - found[less][kind]) / (more - less))
        for kind in found[more]
    }


def _conclude(plan: Plan, found: dict[int, _Sides], extrapolated: Sequence[str]) -> dict[str, Any]:
    return {
        "plan": asdict(plan),
        "targets": {"memory, PSS": f"<= {_CLAIM} at {_CLAIM_PODS} pods"},
        "ratios": {
            f"memory, {kind.upper()}, {KMESH} / {ENVOY}": {
                f"{services} services, {count} pods": round(_compare(sides, count, kind), 4)
                for services, sides in found.items()
                for count in plan.pods
            }
            for kind in ("pss", "rss")
        },
        "bytes": {
            f"{services} services": {
                side: {str(count): figures for count, figures in by.items()} for side, by in sides.items()
            }
            for services, sides in found.items()
        },
        "extrapolated": list(extrapolated),
        "claims": [_claim(services, sides) for services, sides in found.items() if _CLAIM_PODS in plan.pods],
    }


def _compare(sides: _Sides, count: int, kind: str) -> float:
    return _sum(sides[KMESH][count], kind) / sides[ENVOY][count][kind]


def _claim(services: int, sides: _Sides) -> dict[str, Any]:
    ratio = _compare(sides, _CLAIM_PODS, "pss")
    return {
        "claim": f"memory (PSS) below that of {_CLAIM_PODS} sidecars, {services} services",
        "scenario": KMESH,
        "figure": round(1 - ratio, 4),
        "target": round(1 - _CLAIM, 4),
        "passed": ratio <= _CLAIM,
    }


def main() -> None:
    print_pods(measure_pods(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
