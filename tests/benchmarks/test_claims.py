"""Claims: what is computed from which samples, and that errors are no result."""

from __future__ import annotations

import pytest

from benchmarks.traffic.claims import check_claims
from benchmarks.traffic.cpu import Cpu
from benchmarks.traffic.measured import Measured
from benchmarks.traffic.sample import Sample, Samples

WORKLOAD = "http-64"


def _sample(scenario: str, p50: float, cpu_s: float, errors: int = 0, repetition: int = 0) -> Sample:
    latency = {"p50": p50, "p90": p50, "p99": p50, "p999": p50}
    cpu = Cpu(user=cpu_s, system=0.0, softirq=0.0)
    measured = Measured(seconds=1.0, requests=1000, bytes=1000, errors=errors, non_2xx=0, latency_us=latency, cpu=cpu)
    return Sample(scenario=scenario, workload=WORKLOAD, repetition=repetition, measured=measured)


@pytest.mark.parametrize(
    ("ours", "want"),
    [
        pytest.param((100, 1.0), [(1.0, True), (1.0, True)], id="no cost"),
        pytest.param((140, 1.3), [(0.6, True), (0.7, True)], id="just"),
        pytest.param((150, 1.4), [(0.5, False), (0.6, False)], id="too much"),
        pytest.param((90, 0.9), [(1.1, True), (1.1, True)], id="not told from direct"),
        pytest.param((300, 3.0), [(-1.0, False), (-1.0, False)], id="worse than the pair"),
    ],
)
def test_claims(ours: tuple[float, float], want: list[tuple[float, bool]]) -> None:
    samples = Samples([_sample("direct", 100, 1.0), _sample("ours", *ours), _sample("sidecar-pair", 200, 2.0)])
    got = [(claim.figure, claim.passed) for claim in check_claims(samples, [WORKLOAD], ["ours"])]
    assert [passed for _, passed in got] == [passed for _, passed in want]
    assert [figure for figure, _ in got] == pytest.approx([figure for figure, _ in want])


@pytest.mark.parametrize("broken", ["direct", "ours", "sidecar-pair"])
def test_a_sample_with_errors_is_no_result(broken: str) -> None:
    costs = {"direct": 100, "ours": 110, "sidecar-pair": 200}
    samples = Samples(
        _sample(name, cost, cost, errors=int(name == broken and repetition == 1), repetition=repetition)
        for name, cost in costs.items()
        for repetition in range(3)
    )
    assert [(c.figure, c.passed) for c in check_claims(samples, [WORKLOAD], ["ours"])] == [(None, False)] * 2


def test_a_pair_that_costs_nothing_proves_nothing() -> None:
    samples = Samples([_sample(name, 100, 1.0) for name in ("direct", "ours", "sidecar-pair")])
    assert [claim.passed for claim in check_claims(samples, [WORKLOAD], ["ours"])] == [False, False]
