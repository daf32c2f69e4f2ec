"""What a load found out, as it says so on the last line of its standard output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks.traffic.cpu import Cpu

__all__ = ["Measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One sample, its warm-up left out."""

    seconds: float
    requests: int
    """Answered. A stream is one request."""
    bytes: int
    """Of payload, in the direction that has more; with their heads where the load does not tell them apart (wrk)."""
    errors: int
    """Connections refused, reset or ended early, answers that did not come in time."""
    non_2xx: int
    latency_us: dict[str, float] | None
    """By the names of benchmarks.traffic.percentiles; None where latency says nothing."""
    cpu: Cpu

    @property
    def is_result(self) -> bool:
        """A sample with a single error is not one."""
        return self.requests > 0 and not self.errors and not self.non_2xx

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Measured:
        fields = json.loads(line)
        return cls(**fields | {"cpu": Cpu(**fields["cpu"])})
