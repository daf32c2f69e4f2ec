"""The deterministic automaton that every matcher becomes, alone or together with others.

A state has one row: where a byte leads. Bytes are taken together in classes, which no row tells apart. A row is
sparse, most classes leading to the same `otherwise`: the trie of 10,000 paths under one catch-all has rows with one
exception each. A state that can accept nothing any more does not exist: DEAD stands for it.

A state's vector has bit i set when pattern i matches a subject that ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["DEAD", "Dfa", "Row", "make_row"]

DEAD = -1
"""The target from which no subject is accepted."""


class Row(NamedTuple):
    """Targets of one state."""

    otherwise: int
    exceptions: Mapping[int, int]
    """Class -> target, where that is not `otherwise`."""

    def target(self, byte_class: int) -> int:
        return self.exceptions.get(byte_class, self.otherwise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dfa:
    """Starts in state 0, which exists even if it accepts nothing."""

    classes: bytes
    """256 of them: the class of each byte, numbered from 0 without gaps."""
    rows: tuple[Row, ...]
    vectors: tuple[int, ...]

    @property
    def class_count(self) -> int:
        return max(self.classes) + 1

    def run(self, subject: bytes) -> int:
        """The vector of the patterns that match all of `subject`."""
        state = 0
        for byte in subject:
            state = self.rows[state].target(self.classes[byte])
            if state == DEAD:
                return 0
        return self.vectors[state]

    def matches(self, subject: bytes) -> bool:
        """Whether any pattern matches all of `subject`."""
        return self.run(subject) != 0


def make_row(targets: Sequence[int]) -> Row:
    """From the target of every class. The most frequent is `otherwise`; of several, the first."""
    counts: dict[int, int] = {}
    for target in targets:
        counts[target] = counts.get(target, 0) + 1
    otherwise = max(counts, key=counts.__getitem__)
    return Row(otherwise, {number: target for number, target in enumerate(targets) if target != otherwise})
