"""What requests that are routed one by one are to come to: further than the claims, and a run does not fail by them.

Throughput as a ratio to direct or to the sidecar pair; added latency as the share of the pair's that is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.traffic.claims import BASE, PAIR, Claim, saved
from benchmarks.traffic.measured import Measured
from benchmarks.traffic.sample import Samples, per_second

__all__ = ["check_goals"]

_SCENARIO = "kmesh-http"
_KEEP_ALIVE = ("http-1", "http-16", "http-64")
_P50, _P99 = 0.95, 0.90


def check_goals(samples: Samples, workloads: Sequence[str]) -> Iterator[Claim]:
    """Over those of its workloads that the run has."""
    for workload in (name for name in _KEEP_ALIVE if name in workloads):
        for rank, target in (("p50", _P50), ("p99", _P99)):
            figure = saved(samples, _SCENARIO, workload, partial(_latency, rank))
            yield _goal(f"added {rank} saved, {workload}", figure, target)
        yield _over(samples, workload, BASE, 0.6)
        yield _over(samples, workload, PAIR, 6.0)
    for workload, other, target in (
        ("connection-per-request", PAIR, 3.0),
        ("download", BASE, 0.6),
        ("upload", BASE, 0.9),
    ):
        if workload in workloads:
            yield _over(samples, workload, other, target)


def _goal(text: str, figure: float | None, target: float) -> Claim:
    return Claim(claim=text, scenario=_SCENARIO, figure=figure, target=target)


def _over(samples: Samples, workload: str, other: str, target: float) -> Claim:
    ours, theirs = (samples.median(name, workload, per_second) for name in (_SCENARIO, other))
    figure = ours / theirs if ours is not None and theirs else None
    return _goal(f"throughput / {other}'s, {workload}", figure, target)


def _latency(rank: str, measured: Measured) -> float | None:
    return measured.latency_us[rank] if measured.latency_us else None
