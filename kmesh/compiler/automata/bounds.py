"""How large automata may grow, how much work they may take, and the error that says which bound is passed.

Patterns come from whoever may write a route, and a few bytes of them can take exponential time: every loop that grows
with more than the size of its input spends from a budget. Work is counted, not timed, so that the same patterns come
to the same result everywhere; a step is about half a microsecond of CPython.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kmesh.errors import Unsupported

__all__ = ["DEFAULT_BOUNDS", "BoundExceeded", "Bounds", "Budget", "OverBound"]


@dataclass(frozen=True, slots=True)
class OverBound:
    """Construction stops at the bound, so `needed` is the least that it would take."""

    bound: str
    """What there is too much of."""
    needed: int
    limit: int


class BoundExceeded(Unsupported):
    def __init__(self, bound: str, needed: int, limit: int) -> None:
        super().__init__(f"a matcher of {needed} {bound} or more (the limit is {limit})", "its patterns")
        self.over = OverBound(bound, needed, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits, each inclusive: of one automaton, but for `steps_of_work`."""

    nfa_states: int = 50_000
    """Of one regex's NFA. RE2's own bound on a program is of the same order."""
    subset_states: int = 10_000
    """Of one regex's DFA before it is minimised."""
    contains_states: int = 10_000
    """Of the automaton of all `contains` patterns of a field: it takes 2**n states or more for n of them."""
    states: int = 1 << 18
    """Of the finished automaton of a field."""
    steps_of_work: int = 10_000_000
    """Of everything that one budget is for: about five seconds. 10,000 routes take half of it at most."""


DEFAULT_BOUNDS = Bounds()
_BITS_IN_A_STEP = 128


@dataclass(slots=True)
class Budget:
    """Of all automata of one matcher."""

    bounds: Bounds = DEFAULT_BOUNDS
    spent: int = 0
    """Steps of work."""

    def check(self, bound: str, needed: int) -> None:
        """Raises: BoundExceeded when `needed` is over the bound of that name."""
        limit: int = getattr(self.bounds, bound)
        if needed > limit:
            raise BoundExceeded(bound.replace("_", " "), needed, limit)

    def spend_on_vector(self, vector: int) -> None:
        """Of thousands of patterns, vectors are what takes memory. Raises: BoundExceeded."""
        self.spend(1 + vector.bit_length() // _BITS_IN_A_STEP)

    def spend(self, steps: int) -> None:
        """Raises: BoundExceeded."""
        self.spent += steps
        if self.spent > self.bounds.steps_of_work:
            self.check("steps_of_work", self.spent)

    @contextmanager
    def reserve(self, bounds: Bounds) -> Iterator[Budget]:
        """A part of what is left, within `bounds` too. What it spends is spent here.

        Raises: BoundExceeded when that was the rest.
        """
        left = self.bounds.steps_of_work - self.spent
        part = Budget(replace(bounds, steps_of_work=min(bounds.steps_of_work, left)))
        try:
            yield part
        finally:
            self.spend(part.spent)
