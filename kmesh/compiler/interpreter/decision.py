"""Deciding: links are followed from a virtual host to the route that takes the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from kmesh.compiler.interpreter.automaton import Pages, run_automaton
from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.descent import Tables
from kmesh.compiler.interpreter.handed_over import HandedOver
from kmesh.maps.image import MapName
from kmesh.model.match import MILLION
from kmesh.records.constants import LIMITS, LINK_KIND_BITS, DecisionKind, FieldFlag, Handover, LinkKind
from kmesh.records.layout import DECISION, ID, ROUTE, TEST

__all__ = ["TakenRoute", "Values", "find_route"]

Values = Mapping[int, Sequence[bytes]]
"""Of each field that the request has, by its id."""

_LINKS = Struct(f"<{LIMITS['DECISION_BITS']}Q")
_ALL = (1 << 64) - 1


class TakenRoute(NamedTuple):
    action: int
    """Action; `target` belongs to it."""
    target: int
    route: int


@dataclass(frozen=True, slots=True)
class _Decision:
    kind: int
    next: int
    tests: tuple[_Test, ...]
    links: tuple[int, ...]


class _Test(NamedTuple):
    field: int
    automaton: int
    inverted: int
    absent: int


def find_route(tables: Tables, link: int, values: Values, draw: Callable[[], int]) -> TakenRoute:
    """From the link of a virtual host. `draw` gives a 32-bit number, and is asked once at most.

    Raises: HandedOver, Broken.
    """
    chance: int | None = None
    for _ in range(LIMITS["DECISION_DEPTH"]):
        if not link:
            raise HandedOver(Handover.NO_ROUTE)
        if link & LINK_KIND_BITS == LinkKind.DECISION:
            link = _decide(tables[MapName.PAGE], _read_decision(tables, link), values)
            continue
        action, route, target, per_million, _, otherwise = ROUTE.struct.unpack(_read(tables, MapName.ROUTE, link))
        if per_million < MILLION and chance is None:
            chance = draw() * MILLION >> 32
        if per_million >= MILLION or (chance is not None and chance < per_million):
            return TakenRoute(action, target, route)
        link = otherwise
    raise Broken("more decisions than their bound")


def _read(tables: Tables, name: MapName, link: int) -> bytes:
    kind = LinkKind.ROUTE if name is MapName.ROUTE else LinkKind.DECISION
    record = tables[name].get(ID.pack(link))
    if record is None or link & LINK_KIND_BITS != kind:
        raise Broken(f"no record behind link {link:#x}")
    return record


def _read_decision(tables: Tables, link: int) -> _Decision:
    kind, test_count, following, tests, links = DECISION.struct.unpack(_read(tables, MapName.DECISION, link))
    if test_count > LIMITS["DECISION_TESTS"]:
        raise Broken(f"a decision of {test_count} tests")
    rows = TEST.struct.iter_unpack(tests)
    return _Decision(kind, following, tuple(_Test(*row) for row in rows)[:test_count], _LINKS.unpack(links))


def _decide(pages: Pages, decision: _Decision, values: Values) -> int:
    """The link to follow."""
    match decision.kind:
        case DecisionKind.SPLIT:
            return _split(pages, decision, values)
        case DecisionKind.TEST:
            outcome = _ALL
            for test in decision.tests:
                outcome &= _run_test(pages, test, values)
            return decision.links[(outcome & -outcome).bit_length() - 1] if outcome else decision.next
        case _:
            raise Broken(f"a decision of kind {decision.kind}")


def _split(pages: Pages, decision: _Decision, values: Values) -> int:
    if not decision.tests:
        raise Broken("a split by nothing")
    test = decision.tests[0]
    given = _find_values(test.field, values)
    if not given:
        return test.absent
    if len(given) > 1:
        raise HandedOver(Handover.REPEATED)
    return run_automaton(pages, test.automaton, given[0]) or decision.next


def _run_test(pages: Pages, test: _Test, values: Values) -> int:
    given = _find_values(test.field, values)
    if not given:
        return test.absent
    outcome = 0
    for value in given:
        outcome |= run_automaton(pages, test.automaton, value)
    return outcome ^ test.inverted


def _find_values(field: int, values: Values) -> Sequence[bytes]:
    """Those that count."""
    given = values.get(field, ())
    if field & FieldFlag.JOINED and len(given) > 1:
        raise HandedOver(Handover.REPEATED)
    return given[:1] if field & FieldFlag.PARAMETER else given
