"""How large the matcher of one virtual host may grow, and the error that says which bound it is over.

Its automata have bounds of their own (kmesh.compiler.automata.bounds).
"""

from __future__ import annotations

from kmesh.errors import Unsupported
from kmesh.records.constants import LIMITS

__all__ = ["DECISION_BITS", "DECISION_DEPTH", "DECISION_TESTS", "RECORD_BYTES", "MatcherTooLarge", "check_bound"]

DECISION_BITS = LIMITS["DECISION_BITS"]
DECISION_DEPTH = LIMITS["DECISION_DEPTH"]
DECISION_TESTS = LIMITS["DECISION_TESTS"]
RECORD_BYTES = 64 << 20
"""Of one virtual host, before any is found to be another's too. 10,000 routes with an automaton each take 45 MB."""


class MatcherTooLarge(Unsupported):
    """Compilation stops at the bound, so `needed` is the least that it would take."""

    def __init__(self, bound: str, needed: int, limit: int) -> None:
        super().__init__(f"a matcher of {needed} {bound} or more (the limit is {limit})", "its routes")
        self.bound = bound
        self.needed = needed
        self.limit = limit


def check_bound(bound: str, needed: int, limit: int) -> None:
    """Raises: MatcherTooLarge."""
    if needed > limit:
        raise MatcherTooLarge(bound, needed, limit)
