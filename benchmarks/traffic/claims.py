"""What the architecture promises, held against what was measured.

A mesh's cost is what it adds to no mesh at all; a claim is how much smaller that addition is than the sidecar pair's:
1 - (ours - direct) / (pair - direct). 1 or more says that ours was not told from direct. The claim about memory is
benchmarks.pods's, as it depends on the number of pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.traffic.measured import Measured
from benchmarks.traffic.sample import Samples, cpu_ms_per_1000

__all__ = ["BASE", "PAIR", "Claim", "check_claims", "saved"]

BASE, PAIR = "direct", "sidecar-pair"
"""Names of scenarios."""

_LATENCY_WORKLOADS = ("http-1", "http-16", "http-64", "open-50")
_CPU_WORKLOADS = ("http-16", "http-64")
"""Closed loops: they leave no CPU idle, which something else on the machine might use and be counted for."""
_LATENCY_TARGET, _OVERHEAD_TARGET = 0.60, 0.70


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    claim: str
    scenario: str
    figure: float | None
    """As a share; None when there was no result to compute it from, which fails the claim."""
    target: float
    """At least."""

    @property
    def passed(self) -> bool:
        return self.figure is not None and self.figure >= self.target

    def as_json(self) -> dict[str, str | float | bool | None]:
        return {
            "claim": self.claim,
            "scenario": self.scenario,
            "figure": None if self.figure is None else round(self.figure, 4),
            "target": self.target,
            "passed": self.passed,
        }


def check_claims(samples: Samples, workloads: Sequence[str], scenarios: Iterable[str]) -> Iterator[Claim]:
    """For each of `scenarios`, over those workloads of the run that the claims are about."""
    for scenario in scenarios:
        for workload in (name for name in _LATENCY_WORKLOADS if name in workloads):
            text = f"added p50 latency below the sidecar pair's, {workload}"
            figure = saved(samples, scenario, workload, _p50)
            yield Claim(claim=text, scenario=scenario, figure=figure, target=_LATENCY_TARGET)
        for workload in (name for name in _CPU_WORKLOADS if name in workloads):
            text = f"added CPU per request below the sidecar pair's, {workload}"
            figure = saved(samples, scenario, workload, cpu_ms_per_1000)
            yield Claim(claim=text, scenario=scenario, figure=figure, target=_OVERHEAD_TARGET)


def saved(
    samples: Samples, scenario: str, workload: str, figure: Callable[[Measured], float | None]
) -> float | None:
    """Of what the sidecar pair adds to direct in this figure; None when that cannot be said."""
    base, pair, ours = (samples.median(name, workload, figure) for name in (BASE, PAIR, scenario))
    if base is None or pair is None or ours is None or pair <= base:
        return None
    return 1 - (ours - base) / (pair - base)


def _p50(measured: Measured) -> float | None:
    return measured.latency_us["p50"] if measured.latency_us else None
