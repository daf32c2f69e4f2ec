"""kmesh.maps.decode: the records that requests follow, as people read them."""

from __future__ import annotations

import json

import pytest

from kmesh.compiler.automata import Kind, Text, compile_union, make_machine, pack_pages
from kmesh.maps.decode import Names, describe_record, print_record
from kmesh.maps.image import MapName, Record
from kmesh.model.match import MILLION
from kmesh.records.constants import (
    LIMITS,
    Action,
    DecisionKind,
    Field,
    FieldFlag,
    Handover,
    LinkKind,
    Mark,
    RoutesFlag,
)
from kmesh.records.digest import name_id
from kmesh.records.layout import CELL, DECISION, DOMAIN, INDEX, INDEX_ENTRY, ROUTE, ROUTES, TEST
from kmesh.records.seal import seal
from tests.support.records import key64

UNIT, REVIEWS, X_USER = name_id("routes", "web"), name_id("cluster", "reviews"), 0x10 | FieldFlag.JOINED
NAMES = Names(units={UNIT: "web", REVIEWS: "reviews"}, backends={}, fields={X_USER: "header x-user"})
ROUTE_LINK, DECISION_LINK = 0x40 | LinkKind.ROUTE, 0x50 | LinkKind.DECISION
ROUTE_TEXT, DECISION_TEXT = "route 0000000000000041", "decision 0000000000000052"


def show(record: Record) -> list[str]:
    map_name, key, value = record
    described = describe_record(map_name, key, value, NAMES)
    json.dumps(described)
    return list(print_record(map_name, described))


def routing(seal_of: int) -> Record:
    key = key64(UNIT)
    return MapName.ROUTING, key, CELL.pack(7, Action.ROUTES, seal(key, seal_of, Action.ROUTES))


def routes(flags: RoutesFlag, marks: Mark, wildcards: int = 3) -> Record:
    return MapName.ROUTES, key64(7), ROUTES.pack(1, 2, wildcards, flags, marks, 0)


def route(action: Action, target: int, per_million: int = MILLION, otherwise: int = 0) -> Record:
    return MapName.ROUTE, key64(ROUTE_LINK), ROUTE.pack(action, 4, target, per_million, otherwise)


def index(level: int, *entries: tuple[int, int]) -> Record:
    packed = b"".join(INDEX_ENTRY.pack(*entry) for entry in entries)
    size = LIMITS["INDEX_FANOUT"] * INDEX_ENTRY.size
    return MapName.INDEX, key64(2), INDEX.pack(len(entries), level, packed.ljust(size, b"\0"))


def domain(text: bytes) -> Record:
    value = DOMAIN.pack(DECISION_LINK, len(text), text.ljust(LIMITS["HOST_BYTES"], b"\0"))
    return MapName.DOMAIN, key64(9), value


def decision(kind: int, tests: list[tuple[int, int, int, int]], links: list[int], following: int = 0) -> Record:
    packed = b"".join(TEST.pack(*test) for test in tests).ljust(LIMITS["DECISION_TESTS"] * TEST.size, b"\0")
    bits = b"".join(map(key64, links)).ljust(LIMITS["DECISION_BITS"] * 8, b"\0")
    return MapName.DECISION, key64(DECISION_LINK), DECISION.pack(kind, len(tests), following, packed, bits)


@pytest.mark.parametrize(
    ("record", "want"),
    [
        pytest.param(routing(7), [f"web {UNIT:016x} -> ROUTES 0000000000000007"], id="routing"),
        pytest.param(
            routing(8), [f"web {UNIT:016x} -> ROUTES 0000000000000007 SEAL BROKEN"], id="routing with a broken seal"
        ),
        pytest.param(
            routes(RoutesFlag.STRIP_PORT | RoutesFlag.STRIP_DOT, Mark.DOT | Mark.PERCENT),
            [
                "0000000000000007 head 0000000000000001, domains 0000000000000002, wildcards 0000000000000003,"
                " STRIP_PORT, STRIP_DOT, relays DOT PERCENT"
            ],
            id="routes",
        ),
        pytest.param(
            routes(RoutesFlag(0), Mark(0), wildcards=0),
            ["0000000000000007 head 0000000000000001, domains 0000000000000002, wildcards none"],
            id="plain routes",
        ),
        pytest.param(
            (MapName.ROUTES, key64(7), ROUTES.pack(1, 2, 0, 0x81, 0, 0)),
            ["0000000000000007 head 0000000000000001, domains 0000000000000002, wildcards none, IGNORE_PORT, 128"],
            id="unknown flag",
        ),
        pytest.param(
            index(0, (5, 9), (6, 10)),
            [
                "0000000000000002 level 0 of 2",
                "  == 0000000000000005 -> domain 0000000000000009",
                "  == 0000000000000006 -> domain 000000000000000a",
            ],
            id="leaf",
        ),
        pytest.param(
            index(1, (0, 9)),
            ["0000000000000002 level 1 of 1", "  >= 0000000000000000 -> index 0000000000000009"],
            id="inner index",
        ),
        pytest.param(domain(b"*.shop"), [f"0000000000000009 *.shop -> {DECISION_TEXT}"], id="domain"),
        pytest.param(domain(b"\xff"), [rf"0000000000000009 \xff -> {DECISION_TEXT}"], id="domain that is no text"),
        pytest.param(
            route(Action.CLUSTER, REVIEWS),
            [f"{ROUTE_LINK:016x} of routes[4] -> CLUSTER reviews"],
            id="route to a cluster",
        ),
        pytest.param(
            route(Action.HANDOVER, Handover.WAYPOINT),
            [f"{ROUTE_LINK:016x} of routes[4] -> HANDOVER WAYPOINT"],
            id="route that hands over",
        ),
        pytest.param(
            route(Action.NODE, 3, 250_000, DECISION_LINK),
            [
                f"{ROUTE_LINK:016x} of routes[4] -> NODE 0000000000000003 for 250000 of 1000000,"
                f" others {DECISION_TEXT}"
            ],
            id="route by chance",
        ),
        pytest.param(
            decision(
                DecisionKind.TEST,
                [(Field.PATH, 1, 0, 0), (X_USER, 0, 2, 3), (0x20 | FieldFlag.PARAMETER, 5, 0, 1)],
                [ROUTE_LINK, 0, DECISION_LINK],
                ROUTE_LINK,
            ),
            [
                f"{DECISION_LINK:016x} TEST of 3, next {ROUTE_TEXT}",
                "  PATH by 0000000000000001, absent 0000000000000000",
                "  header x-user by none, inverted 0000000000000002, absent 0000000000000003",
                "  parameter 0000000000000022 by 0000000000000005, absent 0000000000000001",
                f"   0 -> {ROUTE_TEXT}",
                "   1 -> none",
                f"   2 -> {DECISION_TEXT}",
            ],
            id="decision by tests",
        ),
        pytest.param(
            decision(DecisionKind.SPLIT, [(0x30, 1, 0, ROUTE_LINK)], []),
            [
                f"{DECISION_LINK:016x} SPLIT of 1, next none",
                f"  header 0000000000000030 by 0000000000000001, absent {ROUTE_TEXT}",
            ],
            id="decision by the value",
        ),
        pytest.param(
            decision(9, [], [3]),
            [f"{DECISION_LINK:016x} 9 of 0, next none", "   0 -> 0000000000000003"],
            id="unknown kinds",
        ),
    ],
)
def test_lines(record: Record, want: list[str]) -> None:
    assert show(record) == want


def test_page_is_counted() -> None:
    """a, b and all other bytes; from the start by a and b, to states where nothing follows."""
    dfa = compile_union([Text(kind=Kind.EXACT, text=b"a"), Text(kind=Kind.EXACT, text=b"b")])
    packed = pack_pages(make_machine(dfa, lambda vector: vector))
    ((key, value),) = packed.records
    assert show((MapName.PAGE, key, value)) == [
        f"{packed.automaton:016x} page 0: 2 transitions, 1 rows, 2 outputs, 3 classes"
    ]


def test_large_automaton_counts_on_every_page() -> None:
    dfa = compile_union([Text(kind=Kind.EXACT, text=b"/%03d" % number) for number in range(64)])
    packed = pack_pages(make_machine(dfa, lambda vector: vector))
    got = [describe_record(MapName.PAGE, key, value, NAMES) for key, value in packed.records]
    assert [page["page"] for page in got] == list(range(len(got)))
    assert sum(page["outputs"] for page in got) == sum(map(bool, dfa.vectors))
    assert sum(page["transitions"] for page in got) == sum(len(row.exceptions) for row in dfa.rows)
    assert sum(page["rows"] for page in got) == sum(bool(row.exceptions) for row in dfa.rows)
