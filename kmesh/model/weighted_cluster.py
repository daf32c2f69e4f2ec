"""One of several clusters among which connections or requests are spread."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WeightedCluster"]


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    name: str
    weight: int
