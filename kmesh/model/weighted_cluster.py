"""One of several clusters among which connections or requests are spread."""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.model.edits import NO_EDITS, HeaderEdits

__all__ = ["WeightedCluster"]


@dataclass(frozen=True, slots=True)
class WeightedCluster:
    """`host` and `edits` are for the requests that are sent there; none where whole connections are."""

    name: str
    weight: int
    host: str = ""
    """host_rewrite_literal; "" leaves the host as it is."""
    edits: HeaderEdits = NO_EDITS
