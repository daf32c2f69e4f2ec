"""A request from its first byte to its cluster, on hand-made records: every way to end, and what comes first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmesh.compiler.automata import Kind, Text
from kmesh.compiler.interpreter.requests import Matched, match_request
from kmesh.maps.image import Fragment, MapName, Record, merge_tables
from kmesh.records.constants import LIMITS, Action, Field, Handover, HeadEvent, Mark, NodeKind, RoutesFlag
from kmesh.records.hash import hash_text
from kmesh.records.layout import CELL, ENTRY, NODE
from tests.support.records import STAY, alias_node, key64
from tests.support.request_tables import (
    automaton,
    decision,
    decision_link,
    domain,
    events_automaton,
    index,
    route,
    route_link,
    routes,
    routing,
)

UNIT, ROUTES, INDEX, DOMAIN = 1, 2, 3, 4
HOST = b"a.x:80"
HEAD = b"//" + HOST + b"\r\n"
"""What the head automaton of these tests reads: a path with a mark, Host, the end."""
EVENTS = (HeadEvent.MARK, HeadEvent.NAME, HeadEvent.VALUE, HeadEvent.VALUE_END, HeadEvent.HEAD_END)
TAKEN = Matched(route=7, cluster=7)


def match(
    *records: Record, received: bytes = HEAD + b"x", draws: Iterator[int] | None = None, port: int = 80
) -> Matched:
    tables = merge_tables([Fragment.of(records)])
    draw = (draws or iter(())).__next__
    return match_request(tables, UNIT, received, port=port, draw=draw, cursors={})


def unit(
    link: int = route_link(7), *, flags: int = 0, marks: int = 0, text: bytes = HOST, domains: int = INDEX
) -> list[Record]:
    """A unit with one domain that leads to route 7."""
    head, pages = events_automaton(*((event, Field.AUTHORITY) for event in EVENTS))
    return [
        *pages,
        route(7),
        domain(DOMAIN, text, link),
        index(INDEX, {hash_text(text): DOMAIN}),
        routes(ROUTES, head=head, domains=domains, flags=flags, marks=marks),
        routing(UNIT, ROUTES),
    ]


def test_a_cluster() -> None:
    assert match(*unit()) == TAKEN


def test_the_port_is_that_of_the_connection() -> None:
    records = unit(flags=RoutesFlag.STRIP_MATCHING_PORT, text=b"a.x")
    assert match(*records) == TAKEN
    assert match(*records, port=81) == Matched(handover=Handover.NO_VIRTUAL_HOST)


@pytest.mark.parametrize("flags", [RoutesFlag.STRIP_PORT, RoutesFlag.IGNORE_PORT], ids=["cut", "ignored"])
def test_conditions_see_what_is_cut_but_not_what_is_ignored(flags: RoutesFlag) -> None:
    seen = b"a.x" if flags is RoutesFlag.STRIP_PORT else HOST
    number, pages = automaton((Text(kind=Kind.EXACT, text=seen), 1))
    only = decision(1, [(Field.AUTHORITY, number, 0, 0)], links=[route_link(7)])
    assert match(*unit(decision_link(1), flags=flags, text=b"a.x"), *pages, only) == TAKEN


def test_one_draw_for_chances_and_then_those_of_the_nodes() -> None:
    node, record = alias_node([(0, 1, Action.CLUSTER, 50), (STAY, 0, Action.CLUSTER, 51)])
    first = route(5, per_million=1, otherwise=route_link(6))
    second = route(6, per_million=999_999, action=Action.NODE, target=node)
    draws = iter((2**31, 1, 1))
    assert match(*unit(route_link(5)), first, second, record, draws=draws) == Matched(route=6, cluster=51)
    assert not list(draws)


@pytest.mark.parametrize("depth", [1, LIMITS["TREE_DEPTH"], LIMITS["TREE_DEPTH"] + 1])
def test_depth_of_nodes(depth: int) -> None:
    records, action, target = [], Action.CLUSTER, 50
    for _ in range(depth):
        target, record = alias_node([(STAY, 0, action, target)])
        action = Action.NODE
        records.append(record)
    got = match(*unit(route_link(5)), *records, route(5, action=action, target=target), draws=iter([0] * 99))
    broken = Matched(handover=Handover.BROKEN)
    assert got == (Matched(route=5, cluster=50) if depth <= LIMITS["TREE_DEPTH"] else broken)


@pytest.mark.parametrize(
    ("records", "want"),
    [
        pytest.param(unit(marks=Mark.DOUBLE_SLASH), Handover.NORMALIZE, id="mark"),
        pytest.param(unit(marks=~Mark.DOUBLE_SLASH & 63), Handover.NONE, id="another_mark"),
        pytest.param(unit(text=b"b.x"), Handover.NO_VIRTUAL_HOST, id="no_virtual_host"),
        pytest.param(unit(domains=0), Handover.NO_VIRTUAL_HOST, id="no_domains"),
        pytest.param(unit(0), Handover.NO_ROUTE, id="no_route"),
        *(
            pytest.param(
                [*unit(route_link(5)), route(5, action=Action.HANDOVER, target=reason)], reason, id=reason.name
            )
            for reason in Handover
            if reason is not Handover.NONE
        ),
    ],
)
def test_handovers(records: list[Record], want: Handover) -> None:
    assert match(*records).handover is want


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="nothing"),
        pytest.param(unit()[:-1], id="no_cell"),
        pytest.param(unit()[:-2] + unit()[-1:], id="no_routes"),
        pytest.param([*unit(), routing(UNIT, ROUTES, action=Action.NODE)], id="not_to_routes"),
        pytest.param(
            [*unit(), (MapName.ROUTING, key64(UNIT), CELL.pack(ROUTES, Action.ROUTES, 1))], id="broken_seal"
        ),
        pytest.param([*unit(), (MapName.ROUTING, key64(UNIT), routing(2, ROUTES)[2])], id="sealed_for_another_unit"),
        pytest.param([*unit(), routes(ROUTES, head=99)], id="no_head_automaton"),
        pytest.param(unit(route_link(9)), id="no_such_route"),
        *(
            pytest.param([*unit(route_link(5)), route(5, action=action, target=1)], id=f"route_to_{action}")
            for action in (*set(Action) - {Action.CLUSTER, Action.HANDOVER}, 99)
        ),
        *(
            pytest.param(
                [*unit(route_link(5)), route(5, action=Action.HANDOVER, target=reason)], id=f"reason_{reason}"
            )
            for reason in (0, max(Handover) + 1, 2**32 + Handover.ACTION)
        ),
        *(
            pytest.param(
                [
                    *unit(route_link(5)),
                    route(5, action=Action.NODE, target=1),
                    (MapName.NODE, key64(1), NODE.pack(NodeKind.ALIAS, 1, 0, 0, 0, ENTRY.pack(STAY, 0, action, 1))),
                ],
                id=f"node_to_{action}",
            )
            for action in set(Action) - {Action.CLUSTER}
        ),
    ],
)
def test_broken(records: list[Record]) -> None:
    assert match(*records, draws=iter([0] * 99)) == Matched(handover=Handover.BROKEN)


@pytest.mark.parametrize(
    ("records", "received", "want"),
    [
        pytest.param(unit(marks=Mark.DOUBLE_SLASH), HEAD[:-1], Handover.INCOMPLETE, id="head_before_marks"),
        pytest.param(
            [*unit(marks=Mark.DOUBLE_SLASH)], b"//\xff" + HEAD[3:], Handover.NORMALIZE, id="marks_before_host"
        ),
        pytest.param(unit(text=b"b"), b"//\xff" + HEAD[3:], Handover.HOST, id="host_before_virtual_host"),
        pytest.param(unit(domains=99), b"//\xff" + HEAD[3:], Handover.HOST, id="host_before_broken_index"),
    ],
)
def test_what_comes_first(records: list[Record], received: bytes, want: Handover) -> None:
    assert match(*records, received=received) == Matched(handover=want)
