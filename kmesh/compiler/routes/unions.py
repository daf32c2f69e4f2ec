"""Automata of several patterns, each compiled once for a virtual host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kmesh.compiler.automata import AutomatonTooLarge, Bounds, Dfa, Pattern, compile_union

__all__ = ["Patterns", "Unions", "find_bits"]

Patterns = tuple[Pattern, ...]
"""Different ones. Bit i of a vector stands for the one at i."""

_TRIED_STATES = 4096
_TRIED_STEPS = 100_000
"""Of an automaton that could as well be several: larger is no better, and to find that out takes time."""


@dataclass(slots=True, kw_only=True)
class Unions:
    bounds: Bounds
    compiled: dict[Patterns, Dfa | AutomatonTooLarge] = field(default_factory=dict)
    tried: dict[Patterns, bool] = field(default_factory=dict)

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

    def is_small(self, patterns: Patterns) -> bool:
        """Whether one automaton of them all, two at least, is better than several."""
        if patterns not in self.tried:
            self.tried[patterns] = self._try(patterns)
        return self.tried[patterns]

    def _try(self, patterns: Patterns) -> bool:
        states = min(self.bounds.states, _TRIED_STATES)
        bounds = replace(
            self.bounds,
            states=states,
            contains_states=min(self.bounds.contains_states, states),
            product_steps=min(self.bounds.product_steps, _TRIED_STEPS),
        )
        try:
            self.compiled[patterns] = compile_union(patterns, bounds=bounds)
        except AutomatonTooLarge:
            return False
        return True


def find_bits(vector: int) -> Iterator[int]:
    """The numbers of the bits that are set, in ascending order."""
    while vector:
        low = vector & -vector
        yield low.bit_length() - 1
        vector ^= low
