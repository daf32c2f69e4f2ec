"""One measurement of one workload against one scenario, as results keep it (benchmarks/SCHEMA.md)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.traffic.measured import Measured

__all__ = ["Sample", "Samples", "cpu_ms_per_1000", "per_second"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    scenario: str
    workload: str
    repetition: int
    """From 0."""
    measured: Measured

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self.measured)
        return {
            "scenario": self.scenario,
            "workload": self.workload,
            "repetition": self.repetition,
            **{name: value for name, value in fields.items() if name != "cpu"},
            "per_second": round(per_second(self.measured), 3),
            "cpu_s": fields["cpu"],
        }


def per_second(measured: Measured) -> float:
    """Requests."""
    return measured.requests / measured.seconds if measured.seconds else 0.0


def cpu_ms_per_1000(measured: Measured) -> float:
    """CPU time of the whole machine for 1,000 requests, in milliseconds."""
    return measured.cpu.total / measured.requests * 1e6


class Samples:
    """All of a run."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._samples = list(samples)

    def add(self, sample: Sample) -> None:
        self._samples.append(sample)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def results(self, scenario: str, workload: str) -> list[Measured] | None:
        """Every repetition; None when there is none, or when one of them is not a result."""
        found = [s.measured for s in self._samples if (s.scenario, s.workload) == (scenario, workload)]
        return found if found and all(measured.is_result for measured in found) else None

    def median(self, scenario: str, workload: str, figure: Callable[[Measured], float | None]) -> float | None:
        """None when there is no result, or when it has no such figure."""
        values = [figure(measured) for measured in self.results(scenario, workload) or ()]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None
