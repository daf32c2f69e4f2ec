"""The graph of a virtual host, executed step by step as its form says: values of fields in, a route out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kmesh.compiler.automata import Pattern, compile_union
from kmesh.compiler.routes.ir import FieldKind, FieldName, Graph, HandOver, Number, Split, Take, Test, TestAll
from kmesh.compiler.semantics import Subject
from kmesh.compiler.semantics.conditions import parse_query
from kmesh.records.constants import Handover

__all__ = ["REPEATED", "follow_graph", "values_of"]

REPEATED = "repeated"
"""In place of a route: a header came more than once where one value is decided on."""
ValuesOf = Callable[[FieldName], Sequence[bytes]]


def follow_graph(graph: Graph, values: ValuesOf, draw: int) -> int | str | None:
    """The index of the route taken; None where there is none."""
    number = graph.root
    while number is not None:
        step = graph.steps[number]
        match step:
            case Take(way=HandOver(reason=Handover.NO_ROUTE)):
                return None
            case Take():
                if draw < step.per_million:
                    return step.index
                number = step.otherwise
            case TestAll():
                number = _follow_tests(step, values)
            case Split():
                given = values(step.field)
                if len(given) > 1:
                    return REPEATED
                number = _follow_split(step, given)
    return None


def values_of(subject: Subject) -> ValuesOf:
    """Of a query parameter the one that counts."""
    parameters = parse_query(subject.path)

    def find(field: FieldName) -> Sequence[bytes]:
        match field.kind:
            case FieldKind.PATH:
                return (subject.bare_path,)
            case FieldKind.HEADER:
                return subject.values(field.name)
            case FieldKind.PARAMETER:
                name = field.name.encode()
                return (parameters[name],) if name in parameters else ()

    return find


def _follow_tests(step: TestAll, values: ValuesOf) -> Number:
    outcome = (1 << 64) - 1
    for test in step.tests:
        outcome &= _run_test(test, values(test.field))
    return step.links[(outcome & -outcome).bit_length() - 1] if outcome else step.next


def _run_test(test: Test, given: Sequence[bytes]) -> int:
    if not given:
        return test.absent
    hit = 0
    for pattern, bits in test.patterns:
        if any(_matches(pattern, value) for value in given):
            hit |= bits
    return hit ^ test.inverted


def _follow_split(split: Split, given: Sequence[bytes]) -> Number:
    if not given:
        return split.absent
    vector = sum(1 << bit for bit, pattern in enumerate(split.patterns) if _matches(pattern, given[0]))
    return dict(split.links)[vector] if vector else split.next


def _matches(pattern: Pattern, value: bytes) -> bool:
    return compile_union((pattern,)).matches(value)
