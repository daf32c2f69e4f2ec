"""From "pod starts" to its first successful request through the mesh: with a sidecar, and on a node with our bridge.

`python -m benchmarks.bootstrap [--quick]`, as root. The pod's network and its application are there in both
cases (benchmarks.node), and the application asks all the time; what is timed is the mesh alone, from when it may
begin:

- sidecar: Envoy is started, takes its configuration from the embedded ADS server, listens, and passes the first
  request on. Not counted, in its favour: traffic redirection, an agent, certificates.
- kmesh L4: the pod's cgroup is made inside the enrolled one and the application moved into it, as a container runtime
  does; its first connect() to the service's address succeeds, which has no route otherwise. The bridge runs already:
  that is once for a node, and reported as "bridge start, once for a node", from the start of its process until the
  first request, programs compiled.

- kmesh HTTP: the same, with requests that are routed one by one: the pod's network namespace, a new one each time, is
  found and given an acceptor first.

They alternate. The first of each is a warm-up and not counted.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import print_table, say, spread, summarize
from benchmarks.first_request import Asker
from benchmarks.node import HTTP_VIP, SIDECAR, VIP, Node, run_node
from tests.support.name_server import Address

__all__ = ["Plan", "measure_bootstrap", "print_bootstrap"]

KMESH, HTTP, ENVOY, BRIDGE = "kmesh L4", "kmesh HTTP", "sidecar", "bridge start, once for a node"
_CLAIM = 0.6
"""At least 40 % faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    services: int = 100
    repetitions: int = 20


QUICK = Plan(repetitions=5)


def measure_bootstrap(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples in ms, summaries, the ratio and the claim on it."""
    fresh = [f"http{number}" for number in range(plan.repetitions + 1)]
    with run_node(("enrolled", "sidecar", *fresh), plan.services) as node, ExitStack() as stack:
        askers = {pod: stack.enter_context(node.asker(pod)) for pod in ("enrolled", "sidecar")}
        node_start_ms = _start_bridge(node, askers["enrolled"], stack)
        samples: dict[str, list[float]] = {KMESH: [], HTTP: [], ENVOY: []}
        for number, pod in enumerate(fresh):
            say(f"bootstrap: pod {number}/{plan.repetitions}")
            samples[KMESH].append(_enrol(node, askers["enrolled"], VIP))
            with node.asker(pod) as asker:
                samples[HTTP].append(_enrol(node, asker, HTTP_VIP))
            samples[ENVOY].append(_start_sidecar(node, askers["sidecar"]))
    return _conclude(plan, {name: found[1:] for name, found in samples.items()} | {BRIDGE: [node_start_ms]})


def print_bootstrap(result: dict[str, Any]) -> None:
    print("from the start of a pod to its first request through the mesh; ms, median (min to max)")
    print_table(["", "ms"], [[name, spread(found, 1)] for name, found in result["samples_ms"].items()])


def _start_bridge(node: Node, asker: Asker, stack: ExitStack) -> float:
    """Leaves it running. Returns ms."""
    with node.pod_cgroup("first") as cgroup:
        asker.move(cgroup)
        asker.begin(VIP)
        started = time.monotonic()
        bridge = node.bridge()
        bridge.spawn()
        stack.callback(bridge.stop)
        answered = asker.wait()
        bridge.wait_until_ready()
        asker.move(node.sandbox.mesh)
    return (answered - started) * 1000


def _enrol(node: Node, asker: Asker, service: Address) -> float:
    asker.begin(service)
    started = time.monotonic()
    with node.pod_cgroup("enrolled") as cgroup:
        asker.move(cgroup)
        answered = asker.wait()
        asker.move(node.sandbox.mesh)
    return (answered - started) * 1000


def _start_sidecar(node: Node, asker: Asker) -> float:
    asker.begin(SIDECAR)
    started = time.monotonic()
    with node.sidecar("sidecar"):
        answered = asker.wait()
    return (answered - started) * 1000


def _conclude(plan: Plan, samples: dict[str, list[float]]) -> dict[str, Any]:
    summaries = {name: summarize(found) for name, found in samples.items()}
    theirs = summaries[ENVOY]
    ratios, spreads = {}, {}
    for scenario in (KMESH, HTTP):
        ours, name = summaries[scenario], f"{scenario} / {ENVOY}"
        ratios[name] = round(ours["median"] / theirs["median"], 4)
        spreads[name] = [ours["q1"] / theirs["q3"], ours["q3"] / theirs["q1"]]
    return {
        "plan": asdict(plan),
        "targets": {"bootstrap": f"<= {_CLAIM}"},
        "ratios": {"bootstrap": ratios},
        "spreads": {"bootstrap": spreads},
        "samples_ms": samples,
        "summaries": summaries,
        "claims": [
            {
                "claim": "time to a pod's first request below a sidecar's",
                "scenario": scenario,
                "figure": round(1 - ratios[f"{scenario} / {ENVOY}"], 4),
                "target": round(1 - _CLAIM, 4),
                "passed": ratios[f"{scenario} / {ENVOY}"] <= _CLAIM,
            }
            for scenario in (KMESH, HTTP)
        ],
    }


def main() -> None:
    print_bootstrap(measure_bootstrap(QUICK if "--quick" in sys.argv[1:] else Plan()))


if __name__ == "__main__":
    main()
