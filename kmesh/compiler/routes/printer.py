"""Stable text of the forms of a virtual host, for golden files.

One line for each candidate, step, test and link. Bits are listed as numbers and ranges of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from kmesh.compiler.automata import Integers, Pattern, Regex, Text
from kmesh.compiler.ir import Choice, ToCluster, Weighted
from kmesh.compiler.routes.ir import (
    Candidate,
    Condition,
    FieldName,
    Graph,
    HandOver,
    Number,
    Split,
    Step,
    Take,
    Test,
    TestAll,
    Way,
)
from kmesh.compiler.routes.unions import find_bits
from kmesh.model.match import MILLION

__all__ = ["print_candidates", "print_graph"]


def print_candidates(candidates: Iterable[Candidate]) -> str:
    """Lines that each end in a newline."""
    return "".join(f"{_print_candidate(candidate)}\n" for candidate in candidates)


def print_graph(graph: Graph) -> str:
    """Likewise; the root is the last step, or there is none."""
    return "".join(f"{line}\n" for number, step in enumerate(graph.steps) for line in _print_step(number, step))


def _print_candidate(candidate: Candidate) -> str:
    asked = [_print_condition(condition) for condition in candidate.conditions]
    chance = [] if candidate.is_certain else [f"{candidate.per_million} of a million"]
    return f"{candidate.index}: {', '.join(asked + chance) or 'always'} -> {_print_way(candidate.way)}"


def _print_condition(condition: Condition) -> str:
    field = _print_field(condition.field)
    if not condition.patterns:
        return f"{field} {'present' if condition.is_inverted else 'absent'}"
    negation = "not " if condition.is_inverted else ""
    absent = " or absent" if condition.when_absent else ""
    return f"{field} {negation}{' or '.join(map(_print_pattern, condition.patterns))}{absent}"


def _print_step(number: int, step: Step) -> Iterator[str]:
    match step:
        case Take():
            share = f" with {step.per_million} of a million" if step.per_million < MILLION else ""
            otherwise = f", else {_print_number(step.otherwise)}" if share else ""
            yield f"{number}: take {step.index}{share} -> {_print_way(step.way)}{otherwise}"
        case TestAll():
            yield f"{number}: test, next {_print_number(step.next)}"
            for test in step.tests:
                yield from _print_test(test)
            yield f"  -> {' '.join(f'{bit}:{link}' for bit, link in enumerate(step.links))}"
        case Split():
            absent = "" if step.field.always_comes else f", absent {_print_number(step.absent)}"
            yield f"{number}: split by {_print_field(step.field)}, next {_print_number(step.next)}{absent}"
            for vector, link in step.links:
                matched = [_print_pattern(step.patterns[bit]) for bit in find_bits(vector)]
                yield f"  {' & '.join(matched)} -> {link}"
        case _:
            assert_never(step)


def _print_test(test: Test) -> Iterator[str]:
    yield f"  {_print_field(test.field)}: inverted {_print_bits(test.inverted)}, absent {_print_bits(test.absent)}"
    for pattern, bits in test.patterns:
        yield f"    {_print_pattern(pattern)}: {_print_bits(bits)}"


def _print_bits(bits: int) -> str:
    """ "0 2-5": ranges include their ends."""
    ranges: list[list[int]] = []
    for bit in find_bits(bits):
        if ranges and ranges[-1][1] == bit - 1:
            ranges[-1][1] = bit
        else:
            ranges.append([bit, bit])
    return " ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges) or "-"


def _print_number(number: Number) -> str:
    return "none" if number is None else str(number)


def _print_field(field: FieldName) -> str:
    return f"{field.kind.value} {field.name}".rstrip()


def _print_pattern(pattern: Pattern) -> str:
    match pattern:
        case Text(kind=kind, text=text, ignore_case=ignore_case):
            return f'{kind.value} "{text.decode()}"{" in any case" if ignore_case else ""}'
        case Regex(pattern=text):
            return f"regex {text}"
        case Integers(start=start, end=end):
            return f"{start} to {end - 1}"
        case _:
            assert_never(pattern)


def _print_way(way: Way) -> str:
    match way:
        case ToCluster(name):
            return f"cluster {name}"
        case Weighted(shares):
            return " or ".join(f"{share.weight} {_name_cluster(share.choice)}" for share in shares)
        case HandOver(reason):
            return f"hand over: {reason.name.lower()}"
        case _:
            assert_never(way)


def _name_cluster(choice: Choice) -> str:
    assert isinstance(choice, ToCluster), "weighted clusters are clusters"
    return f"cluster {choice.name}"
