"""Hand-made records for matching requests, without the compiler of routes. Ids are the test's own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kmesh.compiler.automata import Dfa, Machine, Pattern, Row, compile_union, make_machine, make_word, pack_pages
from kmesh.maps.image import MapName, Record
from kmesh.model.match import MILLION
from kmesh.records.constants import Action, DecisionKind, LinkKind
from kmesh.records.layout import CELL, DECISION, DOMAIN, INDEX, INDEX_ENTRY, ROUTE, ROUTES, TEST
from kmesh.records.seal import seal
from tests.support.records import key64

__all__ = [
    "Row4",
    "automaton",
    "decision",
    "decision_link",
    "domain",
    "events_automaton",
    "index",
    "route",
    "route_link",
]
__all__ += ["routes", "routing"]

Row4 = tuple[int, int, int, int]
"""(field, automaton, inverted, absent)."""


def automaton(*rows: tuple[Pattern, int]) -> tuple[int, list[Record]]:
    """Its id and its pages; the output for a subject is the OR of the numbers of all patterns that match it."""
    dfa: Dfa = compile_union([pattern for pattern, _ in rows])

    def output_of(vector: int) -> int:
        out = 0
        for place, (_, number) in enumerate(rows):
            out |= number if vector >> place & 1 else 0
        return out

    return _pack(make_machine(dfa, output_of))


def events_automaton(*steps: tuple[int, int]) -> tuple[int, list[Record]]:
    """One (event, output) for each byte, whatever it is: state n has the nth output, and is left so."""
    last = len(steps)
    words = [*(make_word(state + 1, event) for state, (event, _) in enumerate(steps)), make_word(last)]
    return _pack(
        Machine(
            classes=bytes(256), rows=[Row(word, {}) for word in words], outputs=[*(output for _, output in steps), 0]
        )
    )


def _pack(machine: Machine) -> tuple[int, list[Record]]:
    packed = pack_pages(machine)
    return packed.automaton, [(MapName.PAGE, key, page) for key, page in packed.records]


def route_link(number: int) -> int:
    return number << 2 | LinkKind.ROUTE


def decision_link(number: int) -> int:
    return number << 2 | LinkKind.DECISION


def route(
    number: int,
    *,
    action: int = Action.CLUSTER,
    target: int | None = None,
    per_million: int = MILLION,
    otherwise: int = 0,
) -> Record:
    """Route `number`, which leads to the cluster of that id if nothing else is said."""
    value = ROUTE.pack(action, number, number if target is None else target, per_million, otherwise)
    return MapName.ROUTE, key64(route_link(number)), value


def decision(
    number: int,
    tests: Sequence[Row4],
    *,
    kind: int = DecisionKind.TEST,
    links: Iterable[int] = (),
    following: int = 0,
    count: int | None = None,
) -> Record:
    """`following` is `next`."""
    rows = b"".join(TEST.pack(*row) for row in tests)
    packed = b"".join(map(key64, links))
    value = DECISION.pack(kind, len(tests) if count is None else count, following, rows, packed)
    return MapName.DECISION, key64(decision_link(number)), value


def domain(number: int, text: bytes, link: int) -> Record:
    return MapName.DOMAIN, key64(number), DOMAIN.pack(link, len(text), text)


def index(number: int, rows: dict[int, int], *, level: int = 0, count: int | None = None) -> Record:
    """`rows` is {key: target}."""
    entries = b"".join(INDEX_ENTRY.pack(key, rows[key]) for key in sorted(rows))
    return MapName.INDEX, key64(number), INDEX.pack(len(rows) if count is None else count, level, entries)


def routes(number: int, *, head: int, domains: int = 0, wildcards: int = 0, flags: int = 0, marks: int = 0) -> Record:
    return MapName.ROUTES, key64(number), ROUTES.pack(head, domains, wildcards, flags, marks, 0)


def routing(number: int, target: int, *, action: int = Action.ROUTES) -> Record:
    key = key64(number)
    return MapName.ROUTING, key, CELL.pack(target, action, seal(key, target, action))
