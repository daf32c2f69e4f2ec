"""Automata of several patterns, each compiled once for a virtual host, within one budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from kmesh.compiler.automata import BoundExceeded, Budget, Dfa, Pattern, Regex, compile_union

__all__ = ["Effort", "Patterns", "Unions", "find_bits"]

Patterns = tuple[Pattern, ...]
"""Different ones. Bit i of a vector stands for the one at i."""


class Effort(Enum):
    """What an automaton may take that there is another way than: (states, steps of work).

    To find out that it takes more is work lost, so these are less than what one without alternative may take.
    """

    TEST = 4096, 100_000
    """That could as well be several."""
    SPLIT = 1 << 18, 5_000_000
    """Without which candidates are tested in turns."""


@dataclass(slots=True, kw_only=True)
class Unions:
    budget: Budget
    compiled: dict[Patterns, Dfa] = field(default_factory=dict)
    refused: set[tuple[Patterns, Effort]] = field(default_factory=set)
    regexes: dict[Regex, Dfa] = field(default_factory=dict)
    """Of one pattern each, which are in many unions."""

    def compile(self, patterns: Patterns) -> Dfa:
        """Raises: BoundExceeded."""
        if patterns not in self.compiled:
            self.compiled[patterns] = compile_union(patterns, self.budget, self.regexes)
        return self.compiled[patterns]

    def is_worth(self, patterns: Patterns, effort: Effort) -> bool:
        """Whether one automaton of them all takes no more. Raises: BoundExceeded when the budget is spent."""
        if (patterns, effort) not in self.refused and patterns not in self.compiled:
            self.try_compiling(patterns, effort)
        return patterns in self.compiled

    def try_compiling(self, patterns: Patterns, effort: Effort) -> None:
        states, steps = effort.value
        bounds = self.budget.bounds
        bounds = replace(
            bounds,
            states=min(bounds.states, states),
            contains_states=min(bounds.contains_states, states),
            steps_of_work=min(bounds.steps_of_work, steps),
        )
        with self.budget.reserve(bounds) as part:
            try:
                self.compiled[patterns] = compile_union(patterns, part, self.regexes)
            except BoundExceeded:
                self.refused.add((patterns, effort))


def find_bits(vector: int) -> Iterator[int]:
    """The numbers of the bits that are set, in ascending order."""
    while vector:
        low = vector & -vector
        yield low.bit_length() - 1
        vector ^= low
