"""Links, routes by chance, tests and splits, on hand-made records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmesh.compiler.automata import Kind, Text
from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.decision import TakenRoute, Values, find_route
from kmesh.compiler.interpreter.handed_over import HandedOver
from kmesh.maps.image import Fragment, MapName, Record, merge_tables
from kmesh.records.constants import LIMITS, Action, DecisionKind, Field, FieldFlag, Handover
from tests.support.records import key64
from tests.support.request_tables import automaton, decision, decision_link, route, route_link

HEADER, JOINED, PARAMETER = 64, 64 | FieldFlag.JOINED, 64 | FieldFlag.PARAMETER
ALL = 2**64 - 1


def exact(text: bytes) -> Text:
    return Text(kind=Kind.EXACT, text=text)


def find(
    link: int, *records: Record, values: Values | None = None, draws: Iterator[int] | None = None
) -> int | Handover | None:
    """The route's number, a reason, or None for BROKEN. Two routes, 1 and 2, are there."""
    tables = merge_tables([Fragment.of([route(1), route(2), *records])])
    try:
        return find_route(tables, link, values or {}, (draws or iter(())).__next__).route
    except HandedOver as why:
        return why.reason
    except Broken:
        return None


# Links


def test_a_route_as_it_is() -> None:
    tables = merge_tables([Fragment.of([route(3, action=Action.HANDOVER, target=Handover.ACTION)])])
    got = find_route(tables, route_link(3), {}, iter(()).__next__)
    assert got == TakenRoute(Action.HANDOVER, Handover.ACTION, 3)


def test_link_0_is_no_route() -> None:
    assert find(0) is Handover.NO_ROUTE


@pytest.mark.parametrize(
    ("link", "records"),
    [
        pytest.param(route_link(9), [], id="no_such_route"),
        pytest.param(decision_link(9), [], id="no_such_decision"),
        pytest.param(4, [(MapName.ROUTE, key64(4), route(1)[2])], id="kind_0"),
        pytest.param(7, [(MapName.ROUTE, key64(7), route(1)[2])], id="kind_3"),
        pytest.param(decision_link(1), [decision(1, [], kind=0, links=[5], following=route_link(1))], id="no_kind"),
        pytest.param(
            decision_link(1), [decision(1, [], kind=3, links=[5], following=route_link(1))], id="kind_unknown"
        ),
        pytest.param(decision_link(1), [decision(1, [], kind=DecisionKind.SPLIT)], id="split_by_nothing"),
        pytest.param(decision_link(1), [decision(1, [], links=[5], count=13)], id="more_tests_than_fit"),
        pytest.param(decision_link(1), [decision(1, [], links=[decision_link(1)])], id="circle"),
        pytest.param(decision_link(1), [decision(1, [(Field.PATH, 9, 0, 0)])], id="no_such_automaton"),
    ],
)
def test_broken(link: int, records: list[Record]) -> None:
    assert find(link, *records, values={Field.PATH: [b"/"]}) is None


@pytest.mark.parametrize("length", [1, LIMITS["DECISION_DEPTH"], LIMITS["DECISION_DEPTH"] + 1])
def test_depth(length: int) -> None:
    """Of decisions and routes by chance, one after the other, and a route."""
    records = []
    for number in range(1, length):
        following = decision_link(number + 1) if number + 1 < length else route_link(2)
        records.append(decision(number, [(HEADER, 0, 0, 0)], following=following))
    got = find(decision_link(1) if length > 1 else route_link(2), *records)
    assert got == (2 if length <= LIMITS["DECISION_DEPTH"] else None)


# Chances

QUARTER = route(3, per_million=250_000, otherwise=route_link(4))
HALF = route(4, per_million=500_000, otherwise=route_link(1))


@pytest.mark.parametrize(
    ("draw", "want"),
    [
        pytest.param(0, 3, id="least"),
        pytest.param(2**30 - 1, 3, id="last_of_the_quarter"),
        pytest.param(2**30, 4, id="one_more"),
        pytest.param(2**31 - 1, 4, id="last_of_the_half"),
        pytest.param(2**31, 1, id="the_others"),
        pytest.param(2**32 - 1, 1, id="greatest"),
    ],
)
def test_one_draw_decides_all_chances(draw: int, want: int) -> None:
    draws = iter((draw,))
    assert find(route_link(3), QUARTER, HALF, draws=draws) == want
    assert not list(draws)


def test_a_chance_of_nothing() -> None:
    assert find(route_link(3), route(3, per_million=0), draws=iter((0,))) is Handover.NO_ROUTE


# Tests


def taken(
    *tests: tuple[int, int, int, int], values: Values | None = None, pages: list[Record] | None = None
) -> object:
    """Where the decision goes: the number of a bit, None when it goes on."""
    records = [route(100 + bit) for bit in range(64)] + [route(99)]
    links = [route_link(100 + bit) for bit in range(64)]
    decided = decision(1, tests, links=links, following=route_link(99))
    got = find(decision_link(1), *records, *(pages or []), decided, values=values)
    return got if got is None or isinstance(got, Handover) else {99: "next"}.get(got, got - 100)


@pytest.mark.parametrize(
    ("tests", "want"),
    [
        pytest.param([], 0, id="no_test"),
        pytest.param([(HEADER, 0, 0, 0b100)], 2, id="absent"),
        pytest.param([(HEADER, 0, ALL, 0)], "next", id="absent_is_not_inverted"),
        pytest.param([(HEADER, 0, 0, 1 << 63)], 63, id="last_bit"),
        pytest.param([(HEADER, 0, 0, 0b1110), (HEADER, 0, 0, 0b1100)], 2, id="lowest_of_those_in_all"),
        pytest.param([(HEADER, 0, 0, 0b10), (HEADER, 0, 0, 0b01)], "next", id="none_in_all"),
        pytest.param([(Field.METHOD, 0, 0, ALL)], "next", id="automaton_0"),
        pytest.param([(Field.METHOD, 0, 0b1000, 0)], 3, id="automaton_0_inverted"),
        pytest.param([(HEADER, 0, 0, ALL)] * 11 + [(HEADER, 0, 0, 0b10000)], 4, id="twelve_tests"),
    ],
)
def test_outcomes(tests: list[tuple[int, int, int, int]], want: object) -> None:
    assert taken(*tests, values={Field.METHOD: [b"GET"]}) == want


@pytest.mark.parametrize(
    ("field", "values", "inverted", "want"),
    [
        pytest.param(HEADER, [b"a"], 0, 1, id="one"),
        pytest.param(HEADER, [b"c"], 0, "next", id="none_matches"),
        pytest.param(HEADER, [b"c", b"b", b"a"], 0, 1, id="any_of_several"),
        pytest.param(HEADER, [b"c", b"b"], 0, 2, id="the_other_of_several"),
        pytest.param(HEADER, [b"a", b"c"], 0b110, 2, id="inverted_after_all_values"),
        pytest.param(HEADER, [b"a", b"b"], 0b110, "next", id="inverted_when_all_match"),
        pytest.param(PARAMETER, [b"b", b"a"], 0, 2, id="first_parameter"),
        pytest.param(PARAMETER, [b"c", b"a"], 0, "next", id="no_other_parameter"),
        pytest.param(JOINED, [b"a"], 0, 1, id="joined_once"),
        pytest.param(JOINED, [b"a", b"a"], 0, Handover.REPEATED, id="joined_twice"),
    ],
)
def test_values(field: int, values: list[bytes], inverted: int, want: object) -> None:
    number, pages = automaton((exact(b"a"), 0b010), (exact(b"b"), 0b100))
    assert taken((field, number, inverted, 0), values={field: values}, pages=pages) == want


def test_every_test_is_run() -> None:
    """Whatever comes of the first."""
    got = taken((HEADER, 0, 0, 0), (JOINED, 0, 0, 0), values={JOINED: [b"a", b"b"]})
    assert got is Handover.REPEATED


# Splits


@pytest.mark.parametrize(
    ("field", "values", "want"),
    [
        pytest.param(Field.PATH, [b"/a"], 1, id="output"),
        pytest.param(Field.PATH, [b"/b"], 2, id="next"),
        pytest.param(HEADER, [], 3, id="absent"),
        pytest.param(HEADER, [b"/a", b"/a"], Handover.REPEATED, id="several"),
        pytest.param(JOINED, [b"/a", b"/a"], Handover.REPEATED, id="several_joined"),
        pytest.param(PARAMETER, [b"/a", b"/b"], 1, id="first_parameter"),
        pytest.param(PARAMETER, [b"/b", b"/a"], 2, id="first_parameter_goes_on"),
    ],
)
def test_splits(field: int, values: list[bytes], want: int | Handover) -> None:
    number, pages = automaton((exact(b"/a"), route_link(1)))
    split = decision(
        1,
        [(field, number, ALL, route_link(3)), (HEADER, 9, 0, 0)],
        kind=DecisionKind.SPLIT,
        following=route_link(2),
    )
    assert find(decision_link(1), route(3), split, *pages, values={field: values}) == want


def test_a_split_without_a_way_for_the_absent() -> None:
    split = decision(1, [(HEADER, 0, 0, 0)], kind=DecisionKind.SPLIT, following=route_link(2))
    assert find(decision_link(1), split) is Handover.NO_ROUTE
