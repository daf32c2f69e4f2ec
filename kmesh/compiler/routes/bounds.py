"""How large the matcher of one virtual host may grow, beside the bounds of its automata."""

from __future__ import annotations

from kmesh.compiler.automata import BoundExceeded
from kmesh.records.constants import LIMITS

__all__ = ["DECISION_BITS", "DECISION_DEPTH", "DECISION_TESTS", "RECORD_BYTES", "check_bound"]

DECISION_BITS = LIMITS["DECISION_BITS"]
DECISION_DEPTH = LIMITS["DECISION_DEPTH"]
DECISION_TESTS = LIMITS["DECISION_TESTS"]
RECORD_BYTES = 64 << 20
"""Of one virtual host, before any is found to be another's too. 10,000 routes with an automaton each take 45 MB."""


def check_bound(bound: str, needed: int, limit: int) -> None:
    """Raises: BoundExceeded."""
    if needed > limit:
        raise BoundExceeded(bound, needed, limit)
