"""The automaton as flat arrays: what a record holds, and a loop of one load per byte runs.

`targets[state * class_count + classes[byte]]` is the next state. DEAD is state 0, which leads to itself, so that the
loop needs no test for it; the start is state 1. States share vectors: `vectors[accepts[state]]`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from kmesh.compiler.automata.classes import number_by_first_use
from kmesh.compiler.automata.dfa import Dfa

__all__ = ["START", "Table", "make_table"]

START = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    classes: bytes
    """256 of them, the class of each byte."""
    class_count: int
    targets: array[int]
    """Unsigned 32-bit, state by state."""
    accepts: array[int]
    """Unsigned 32-bit, an index of `vectors` for each state."""
    vectors: tuple[int, ...]
    """All different. The first is DEAD's, where no pattern matches: 0."""

    def run(self, subject: bytes) -> int:
        """The vector of the patterns that match all of `subject`."""
        state = START
        for byte in subject:
            state = self.targets[state * self.class_count + self.classes[byte]]
        return self.vectors[self.accepts[state]]


def make_table(dfa: Dfa) -> Table:
    class_count = dfa.class_count
    targets = array("I", [0] * class_count)
    for row in dfa.rows:
        flat = [row.otherwise + START] * class_count  # DEAD, -1, becomes 0
        for byte_class, target in row.exceptions.items():
            flat[byte_class] = target + START
        targets.extend(flat)
    vectors = (0, *dfa.vectors)
    return Table(
        classes=dfa.classes,
        class_count=class_count,
        targets=targets,
        accepts=array("I", number_by_first_use(vectors)),
        vectors=tuple(dict.fromkeys(vectors)),
    )
