"""Conditions of up to 64 candidates -> the tests that tell which candidates meet all of theirs.

    0: header x-a exact "1", header x-a not exact "2"        header x-a: 0 exact "1"; 1 present
    1: header x-a present                               ->   header x-a: 0 not exact "2"
    2: path prefix "/b"                                      path: 2 prefix "/b"

The nth conditions of all candidates on one field make a layer, and a layer is one test. A candidate without a
condition there passes, with a value (its inverted bit is 1, and no pattern has it) and without (its absent bit is 1).
A layer whose automaton would explode is several tests: n contained texts take 2**n states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kmesh.compiler.automata import Kind, Pattern, Regex, Text
from kmesh.compiler.routes.ir import Condition, FieldName, Test
from kmesh.compiler.routes.unions import Effort, Unions

__all__ = ["assign_tests"]

_MAX_SEARCHES = 6
"""Patterns found anywhere in a value that one automaton has."""
_ANYWHERE = (".*", ".+", "(.*", "(.+")
_Layer = list[tuple[int, Condition]]
"""(bit, condition)."""


def assign_tests(rows: Sequence[tuple[Condition, ...]], unions: Unions) -> tuple[Test, ...]:
    """`rows`: of each candidate, its conditions; it has the bit of its place.

    Raises: BoundExceeded where one pattern alone is too large.
    """
    return tuple(
        _make_test(field, part, len(rows))
        for (field, _), layer in _find_layers(rows).items()
        for searches in _part_searches(layer)
        for part in _part(searches, unions)
    )


def _find_layers(rows: Sequence[tuple[Condition, ...]]) -> dict[tuple[FieldName, int], _Layer]:
    layers: dict[tuple[FieldName, int], _Layer] = {}
    for bit, conditions in enumerate(rows):
        seen: dict[FieldName, int] = {}
        for condition in conditions:
            depth = seen.get(condition.field, 0)
            seen[condition.field] = depth + 1
            layers.setdefault((condition.field, depth), []).append((bit, condition))
    return layers


def _part_searches(layer: _Layer) -> Iterator[_Layer]:
    """The first part has everything that searches nothing, too."""
    part = [item for item in layer if not _searches(item[1])]
    found: set[Pattern] = set()
    for item in filter(lambda item: _searches(item[1]), layer):
        found |= set(item[1].patterns)
        if len(found) > _MAX_SEARCHES:
            yield part
            part, found = [], set(item[1].patterns)
        part.append(item)
    yield part


def _searches(condition: Condition) -> bool:
    return any(map(_is_search, condition.patterns))


def _is_search(pattern: Pattern) -> bool:
    match pattern:
        case Text(kind=kind):
            return kind is Kind.CONTAINS
        case Regex(pattern=text):
            return text.startswith(_ANYWHERE)
        case _:
            return False


def _part(layer: _Layer, unions: Unions) -> Iterator[_Layer]:
    """Halves of halves, until each has a small automaton or one candidate."""
    patterns = _patterns_of(layer)
    unions.budget.spend(len(patterns))
    if len(layer) == 1 or len(patterns) <= 1 or unions.is_worth(patterns, Effort.TEST):
        if patterns:
            unions.compile(patterns)
        yield layer
        return
    middle = len(layer) // 2
    yield from _part(layer[:middle], unions)
    yield from _part(layer[middle:], unions)


def _patterns_of(layer: _Layer) -> tuple[Pattern, ...]:
    return tuple(dict.fromkeys(pattern for _, condition in layer for pattern in condition.patterns))


def _make_test(field: FieldName, layer: _Layer, count: int) -> Test:
    inverted = absent = (1 << count) - 1
    bits: dict[Pattern, int] = {}
    for bit, condition in layer:
        inverted ^= (not condition.is_inverted) << bit
        absent ^= (not condition.when_absent) << bit
        for pattern in condition.patterns:
            bits[pattern] = bits.get(pattern, 0) | 1 << bit
    return Test(field=field, patterns=tuple(bits.items()), inverted=inverted, absent=absent)
