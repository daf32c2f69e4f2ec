"""Runs the plan: all scenarios up at once, measured in turns: what the machine does meanwhile meets them alike.

Within a repetition each workload goes over all scenarios, in an order drawn anew, before the next begins. Closed
loops come first: the open loop's rates are shares of what the sidecar pair did in them.
"""

from __future__ import annotations

import random
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import product
from typing import Any

from benchmarks.clients import Memory
from benchmarks.figures import say
from benchmarks.traffic.claims import BASE, PAIR, check_claims
from benchmarks.traffic.cpu import Cpu
from benchmarks.traffic.goals import check_goals
from benchmarks.traffic.measured import Measured
from benchmarks.traffic.resources import write_catalog
from benchmarks.traffic.sample import Sample, Samples, cpu_ms_per_1000, per_second
from benchmarks.traffic.scenario import Running, Scenario
from benchmarks.traffic.scenarios import SCENARIOS
from benchmarks.traffic.sidecar import CONCURRENCY
from benchmarks.traffic.topology import Lane, run_lanes
from benchmarks.traffic.workload import OPEN_CONNECTIONS, Plan, Workload, list_closed, list_open
from kmesh.xds.server import AdsServer
from tests.support.loop_thread import LoopThread
from tests.support.sandbox import Sandbox

__all__ = ["FULL", "QUICK", "Traffic", "measure_traffic", "run_scenarios"]

FULL = Plan()
QUICK = Plan(repetitions=2, seconds=0.6, warm_up_s=0.2, connections=(1, 64), sizes=(64,), open_shares=(0.5,))
_SAMPLE_S = 60.0


class Traffic:
    """The scenarios, up."""

    def __init__(self, sandbox: Sandbox, lanes: Mapping[str, Lane], running: Mapping[str, Running]) -> None:
        self._sandbox = sandbox
        self._lanes = lanes
        self.running = running

    def measure(self, scenario: Scenario, workload: Workload, repetition: int) -> Sample:
        """A load that fails as a whole is a sample with one error."""
        process = self.spawn(scenario, workload.command(self.running[scenario.name].target))
        try:
            out, err = process.communicate(timeout=_SAMPLE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = "", process.communicate()[1]
        if process.returncode == 0:
            measured = Measured.from_line(out.splitlines()[-1])
        else:
            say(f"traffic: {scenario.name}, {workload.name}: {(err.strip().splitlines() or ['no answer'])[-1]}")
            measured = _FAILED
        return Sample(scenario=scenario.name, workload=workload.name, repetition=repetition, measured=measured)

    def spawn(self, scenario: Scenario, command: Sequence[str]) -> subprocess.Popen[str]:
        """In the scenario's client pod; its outputs are to be read."""
        inside = [*self._lanes[scenario.name].in_client, *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self._sandbox.spawn(inside, enrolled=scenario.is_enrolled, **pipes)

    def memory_bytes(self) -> dict[str, dict[str, int]]:
        """Resident now, by scenario and process."""
        return {
            name: {process: Memory.of(pid).rss * 1024 for process, pid in running.processes.items()}
            for name, running in self.running.items()
        }


_FAILED = Measured(
    seconds=0.0, requests=0, bytes=0, errors=1, non_2xx=0, latency_us=None, cpu=Cpu(user=0.0, system=0.0, softirq=0.0)
)


@contextmanager
def run_scenarios(scenarios: Sequence[Scenario] = SCENARIOS) -> Iterator[Traffic]:
    """All of them at once, configured by one embedded ADS server."""
    with Sandbox() as sandbox, LoopThread() as loop, ExitStack() as stack:
        lanes = stack.enter_context(run_lanes(sandbox, [scenario.name for scenario in scenarios]))
        ads = sandbox.folder / "ads.sock"
        catalog = write_catalog((lanes[scenario.name], scenario.routing) for scenario in scenarios)
        stack.enter_context(loop.entered(AdsServer(catalog, ads)))
        running = {
            scenario.name: stack.enter_context(scenario.run(lanes[scenario.name], ads)) for scenario in scenarios
        }
        yield Traffic(sandbox, lanes, running)


def measure_traffic(plan: Plan) -> dict[str, Any]:
    """Run the plan, saying where it is; returns samples, memory, claims and ratios."""
    samples, closed = Samples(), list(list_closed(plan))
    with run_scenarios() as traffic:
        _measure_all(traffic, plan, closed, samples)
        maximum = samples.median(PAIR, f"http-{OPEN_CONNECTIONS}", per_second)
        opened = list(list_open(plan, maximum)) if maximum else []
        _measure_all(traffic, plan, opened, samples)
        memory = traffic.memory_bytes()
    names = [workload.name for workload in (*closed, *opened)]
    claimed = [scenario.name for scenario in SCENARIOS if scenario.is_claimed]
    return {
        "plan": asdict(plan),
        "sidecar_concurrency": CONCURRENCY,
        "scenarios": [scenario.name for scenario in SCENARIOS],
        "workloads": names,
        "commands": {workload.name: workload.command("TARGET")[1:] for workload in (*closed, *opened)},
        "samples": [sample.as_json() for sample in samples],
        "memory_bytes": memory,
        "claims": [claim.as_json() for claim in check_claims(samples, names, claimed)],
        "goals": [goal.as_json() for goal in check_goals(samples, names)],
        **_compare(samples, names),
    }


def _measure_all(traffic: Traffic, plan: Plan, workloads: Iterable[Workload], samples: Samples) -> None:
    workloads = list(workloads)
    for repetition in range(plan.repetitions):
        for workload in workloads:
            say(f"traffic: repetition {repetition + 1}/{plan.repetitions}, {workload.name}")
            for scenario in random.sample(SCENARIOS, len(SCENARIOS)):
                if workload.is_http or not scenario.is_http_only:
                    samples.add(traffic.measure(scenario, workload, repetition))


def _compare(samples: Samples, workloads: Sequence[str]) -> dict[str, Any]:
    """Every scenario to direct, by workload, where both have results; spreads: least / most to most / least."""
    figures = {"requests/s": per_second, "CPU per request": cpu_ms_per_1000}
    ratios: dict[str, dict[str, float]] = {}
    spreads: dict[str, dict[str, list[float]]] = {}
    for scenario, (title, figure) in product((one.name for one in SCENARIOS if one.name != BASE), figures.items()):
        name = f"{title}, {scenario} / {BASE}"
        ratios[name], spreads[name] = {}, {}
        for workload in workloads:
            ours, base = ([figure(m) for m in samples.results(one, workload) or ()] for one in (scenario, BASE))
            if ours and base and min(base) > 0:
                ratios[name][workload] = round(statistics.median(ours) / statistics.median(base), 4)
                spreads[name][workload] = [round(min(ours) / max(base), 4), round(max(ours) / min(base), 4)]
    return {"ratios": ratios, "spreads": spreads}
