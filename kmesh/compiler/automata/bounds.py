"""How large automata may grow, and the error that says which bound a pattern is over.

Subset construction can take exponential time and memory in the pattern's length; every loop that could is counted
against one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.errors import Unsupported

__all__ = ["DEFAULT_BOUNDS", "AutomatonTooLarge", "Bounds"]


class AutomatonTooLarge(Unsupported):
    """An automaton is over a bound. Construction stops there, so `needed` is the least that it would take."""

    def __init__(self, bound: str, needed: int, limit: int) -> None:
        super().__init__(f"an automaton of {needed} {bound} or more (the limit is {limit})", "its patterns")
        self.bound = bound
        self.needed = needed
        self.limit = limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one automaton, each inclusive."""

    nfa_states: int = 50_000
    """Of one regex's NFA. RE2's own bound on a program is of the same order."""
    subset_states: int = 10_000
    """Of one regex's DFA before it is minimised."""
    subset_members: int = 1_000_000
    """NFA states in all subsets of one regex together: bounds the time that it takes."""
    contains_states: int = 10_000
    """Of the automaton of all `contains` patterns of a field: it takes 2**n states or more for n of them."""
    states: int = 1 << 18
    """Of the finished automaton of a field."""
    product_steps: int = 20_000_000
    """Transitions of single automata that are followed to make that of a field: bounds the time that it takes."""

    def check(self, bound: str, needed: int) -> None:
        """Raises: AutomatonTooLarge when `needed` is over the bound of that name."""
        limit: int = getattr(self, bound)
        if needed > limit:
            raise AutomatonTooLarge(bound.replace("_", " "), needed, limit)


DEFAULT_BOUNDS = Bounds()
