"""Percentiles of latencies that were all kept: no buckets, no interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["RANKS", "percentiles"]

RANKS = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


def percentiles(latencies_ns: Sequence[int]) -> dict[str, float] | None:
    """In microseconds, by nearest rank: the smallest latency that so many percent do not exceed. None without any."""
    if not latencies_ns:
        return None
    ordered = sorted(latencies_ns)
    return {name: ordered[math.ceil(len(ordered) * rank / 100) - 1] / 1000 for name, rank in RANKS.items()}
