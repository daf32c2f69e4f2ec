"""Automata of several patterns, each compiled once for a virtual host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from kmesh.compiler.automata import AutomatonTooLarge, Bounds, Dfa, Pattern, compile_union

__all__ = ["Effort", "Patterns", "Unions", "find_bits"]

Patterns = tuple[Pattern, ...]
"""Different ones. Bit i of a vector stands for the one at i."""



class Effort(Enum):
    """What an automaton may take that there is another way than: (states, product_steps) of Bounds.

    To find out that it takes more is time lost, so these are less than what one without alternative may take.
    """

    TEST = 4096, 100_000
    """That could as well be several."""
    SPLIT = 1 << 18, 4_000_000
    """Without which candidates are tested in turns."""


@dataclass(slots=True, kw_only=True)
class Unions:
    bounds: Bounds
    compiled: dict[Patterns, Dfa | AutomatonTooLarge] = field(default_factory=dict)
    refused: set[tuple[Patterns, Effort]] = field(default_factory=set)

    def compile(self, patterns: Patterns) -> Dfa:
        """Raises: AutomatonTooLarge."""
        if patterns not in self.compiled:
            try:
                self.compiled[patterns] = compile_union(patterns, bounds=self.bounds)
            except AutomatonTooLarge as why:
                self.compiled[patterns] = why
        found = self.compiled[patterns]
        if isinstance(found, AutomatonTooLarge):
            raise found
        return found

    def is_worth(self, patterns: Patterns, effort: Effort) -> bool:
        """Whether one automaton of them all takes no more."""
        if (patterns, effort) not in self.refused and patterns not in self.compiled:
            self.try_compiling(patterns, effort)
        return isinstance(self.compiled.get(patterns), Dfa)

    def try_compiling(self, patterns: Patterns, effort: Effort) -> None:
        states, steps = effort.value
        bounds = replace(
            self.bounds,
            states=min(self.bounds.states, states),
            contains_states=min(self.bounds.contains_states, states),
            product_steps=min(self.bounds.product_steps, steps),
        )
        try:
            self.compiled[patterns] = compile_union(patterns, bounds=bounds)
        except AutomatonTooLarge:
            self.refused.add((patterns, effort))


def find_bits(vector: int) -> Iterator[int]:
    """The numbers of the bits that are set, in ascending order."""
    while vector:
        low = vector & -vector
        yield low.bit_length() - 1
        vector ^= low
