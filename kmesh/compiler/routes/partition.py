"""Candidates -> shorter lists of candidates, one for each set of patterns that a value of one field can match.

    0: path exact "/a"                          exact "/a", prefix "/"    0, 2
    1: path exact "/b", header x-c present  ->  exact "/b", prefix "/"    1, 2
    2: path prefix "/"                          prefix "/"                2
                                                none                      none

A list ends with the first candidate that has nothing left to ask and takes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kmesh.compiler.automata import Budget, Pattern
from kmesh.compiler.routes.ir import Condition, FieldName
from kmesh.compiler.routes.unions import Effort, Patterns, Unions, find_bits

__all__ = ["Partition", "Row", "partition_candidates"]

_LISTED_PER_CANDIDATE = 64
"""Places in all lists together, for each candidate: more than that is a field that tells little apart."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate of a list that is to be partitioned."""

    number: int
    conditions: tuple[Condition, ...]
    """On the field."""
    ends_lists: bool
    """It takes all that get there and meet them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    field: FieldName
    patterns: Patterns
    lists: tuple[tuple[int, tuple[int, ...]], ...]
    """(vector, candidates), 0 first: where no pattern matches."""
    absent: tuple[int, ...]
    """Where the field does not come."""

    @property
    def longest(self) -> int:
        return max(len(self.absent), *(len(numbers) for _, numbers in self.lists))


@dataclass(slots=True)
class _Layer:
    """One condition of each candidate. A bit stands for the candidate in that row."""

    hits: dict[Pattern, int] = field(default_factory=dict)
    inverted: int = 0
    absent: int = 0


def partition_candidates(rows: Sequence[Row], field: FieldName, unions: Unions) -> Partition | None:
    """None where the lists, or the automaton, would be long. Raises: BoundExceeded when the budget is spent."""
    layers = _find_layers(rows, unions.budget)
    patterns = tuple(dict.fromkeys(pattern for layer in layers for pattern in layer.hits))
    if patterns and not unions.is_worth(patterns, Effort.SPLIT):
        return None
    vectors = dict.fromkeys((0, *(unions.compile(patterns).vectors if patterns else ())))
    ends = sum(1 << bit for bit, row in enumerate(rows) if row.ends_lists)
    room = _LISTED_PER_CANDIDATE * len(rows)
    lists = []
    for vector in vectors:
        unions.budget.spend(1 + vector.bit_count() * len(layers) * (1 + len(rows) // 4096))
        found = _cut(_meet(layers, patterns, vector), ends)
        room -= found.bit_count()
        if room < 0:
            return None
        lists.append((vector, tuple(rows[bit].number for bit in find_bits(found))))
    absent = 0 if field.always_comes else _cut(_meet_absent(layers), ends)
    return Partition(
        field=field,
        patterns=patterns,
        lists=tuple(lists),
        absent=tuple(rows[bit].number for bit in find_bits(absent)),
    )


def _find_layers(rows: Sequence[Row], budget: Budget) -> list[_Layer]:
    everyone = (1 << len(rows)) - 1
    layers = [_Layer(inverted=everyone, absent=everyone) for _ in range(max(len(row.conditions) for row in rows))]
    for bit, row in enumerate(rows):
        for layer, condition in zip(layers, row.conditions, strict=False):
            layer.inverted ^= (not condition.is_inverted) << bit
            layer.absent ^= (not condition.when_absent) << bit
            for pattern in condition.patterns:
                layer.hits[pattern] = layer.hits.get(pattern, 0) | 1 << bit
                budget.spend_on_vector(layer.hits[pattern])
    return layers


def _meet(layers: Sequence[_Layer], patterns: Patterns, vector: int) -> int:
    """The candidates whose conditions all hold for a value that matches the patterns of `vector`."""
    met = -1
    matched = [patterns[bit] for bit in find_bits(vector)]
    for layer in layers:
        hit = 0
        for pattern in matched:
            hit |= layer.hits.get(pattern, 0)
        met &= hit ^ layer.inverted
    return met


def _meet_absent(layers: Sequence[_Layer]) -> int:
    met = -1
    for layer in layers:
        met &= layer.absent
    return met


def _cut(met: int, ends: int) -> int:
    """Up to the first that ends its list."""
    last = met & ends
    return met & ((last & -last) << 1) - 1 if last else met
