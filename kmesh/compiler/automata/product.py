"""Several automata run at once as one, whose vector is what theirs are together.

A state of the product is the states that its parts are in, where a part that is DEAD is left out: of a thousand
regexes only the few that can still match take part. Only what can be reached is made.

When the parts are minimal and no bit is in vectors of two of them, the product is minimal too: its vector tells the
vector of each part, so two of its states that accept alike consist of states that accept alike part by part, which
are the same states. No minimisation has to follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.classes import merge_classes
from kmesh.compiler.automata.dfa import DEAD, Dfa, Row, make_row

__all__ = ["multiply"]

_States = tuple[int, ...]
"""One state of each part that is not DEAD; states of all parts are numbered together, part after part."""


def multiply(parts: Sequence[Dfa], budget: Budget) -> Dfa:
    """Minimal if `parts` are, with disjoint vectors. Raises: BoundExceeded."""
    if len(parts) == 1:
        return parts[0]
    return _Product(parts, budget).run()


class _Product:
    def __init__(self, parts: Sequence[Dfa], budget: Budget) -> None:
        self.budget = budget
        self.classes = merge_classes([part.classes for part in parts])
        self.class_count = max(self.classes) + 1
        self.rows: list[Row] = []
        """Of all states of all parts, in the classes of the product."""
        self.vectors: list[int] = []
        self.starts: list[int] = []
        for part in parts:
            self.add(part)
        self.numbers: dict[_States, int] = {(): DEAD}
        self.found: list[_States] = []

    def add(self, part: Dfa) -> None:
        base = len(self.rows)
        finer: list[list[int]] = [[] for _ in range(part.class_count)]
        for byte_class, part_class in sorted(set(zip(self.classes, part.classes, strict=True))):
            finer[part_class].append(byte_class)
        for row in part.rows:
            exceptions = {
                byte_class: _shift(target, base)
                for part_class, target in row.exceptions.items()
                for byte_class in finer[part_class]
            }
            self.rows.append(Row(_shift(row.otherwise, base), exceptions))
            self.budget.spend(1 + len(exceptions))
        self.vectors.extend(part.vectors)
        self.starts.append(base)

    def run(self) -> Dfa:
        start = tuple(self.starts)
        self.numbers[start] = 0
        self.found.append(start)
        rows = [self.row(states) for states in self.found]  # which grows meanwhile
        vectors = tuple(self.vector(states) for states in self.found)
        return Dfa(classes=self.classes, rows=tuple(rows), vectors=vectors)

    def row(self, states: _States) -> Row:
        rows = [self.rows[state] for state in states]
        touched = sorted(set().union(*(row.exceptions for row in rows)))
        self.budget.spend(1 + len(touched) + len(rows) * (len(touched) + 1) // 4)
        exceptions = {byte_class: self.number(row.target(byte_class) for row in rows) for byte_class in touched}
        if len(touched) == self.class_count:  # nothing leads to `otherwise`, which need not even be a state
            return make_row([exceptions[byte_class] for byte_class in touched])
        otherwise = self.number(row.otherwise for row in rows)
        return Row(otherwise, {key: target for key, target in exceptions.items() if target != otherwise})

    def number(self, targets: Iterable[int]) -> int:
        """Raises: BoundExceeded when the state of `targets` is one too many."""
        states = tuple(target for target in targets if target != DEAD)
        if states not in self.numbers:
            self.numbers[states] = len(self.found)
            self.found.append(states)
            self.budget.check("states", len(self.found))
        return self.numbers[states]

    def vector(self, states: _States) -> int:
        """An int that a part has already, where only one has any bits: 10,000 of 10,000 bits are not copied."""
        vectors = [self.vectors[state] for state in states if self.vectors[state]]
        together = vectors[0] if vectors else 0
        for vector in vectors[1:]:
            together |= vector
            self.budget.spend_on_vector(together)
        return together


def _shift(target: int, base: int) -> int:
    return target if target == DEAD else base + target
