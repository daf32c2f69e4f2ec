"""Compiled virtual hosts against the plain semantics, step by step and as records; bounds; what a host leads to."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.compiler.automata import DEFAULT_BOUNDS, BoundExceeded, Bounds, Budget, OverBound
from kmesh.compiler.interpreter.decision import find_route
from kmesh.compiler.interpreter.handed_over import HandedOver
from kmesh.compiler.routes.compile import CompiledHost, compile_virtual_host
from kmesh.compiler.routes.decide import decide
from kmesh.compiler.routes.ir import HandOver, Take
from kmesh.compiler.routes.normalise import find_candidates
from kmesh.compiler.routes.unions import Unions
from kmesh.compiler.routes.verify import find_violations_in_candidates, find_violations_in_graph
from kmesh.compiler.semantics import Subject
from kmesh.compiler.semantics.conditions import find_failing
from kmesh.maps.image import Fragment, MapName, merge_tables
from kmesh.model.match import (
    MILLION,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    QueryParameterMatch,
    RangeMatch,
    RouteMatch,
    StringKind,
    StringMatch,
)
from kmesh.model.route import ClusterAction, DirectResponse, Feature, Route, VirtualHost, WeightedClusters
from kmesh.model.route_features import PROXY_HEADER_MATCH
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.records.constants import Action, Handover, LinkKind
from kmesh.records.layout import ROUTE
from tests.support.matcher_ir import REPEATED, follow_graph, values_of
from tests.support.virtual_hosts import make_host, make_long_host, make_subject

TO_A = ClusterAction(cluster="a")


def host(*routes: Route, features: tuple[Feature, ...] = ()) -> VirtualHost:
    return VirtualHost(name="v", domains=("*",), routes=routes, features=features)


def path(text: str, kind: PathKind = PathKind.PREFIX) -> PathMatch:
    return PathMatch(kind=kind, text=text)


def header(name: str, text: str, kind: StringKind = StringKind.EXACT) -> HeaderMatch:
    return HeaderMatch(name=name, value=StringMatch(kind=kind, text=text))


def find_plainly(virtual_host: VirtualHost, subject: Subject, draw: int) -> int | None:
    for index, route in enumerate(virtual_host.routes):
        if find_failing(route.match, subject, ignores_path_parameters=False, draw=draw) is None:
            return index
    return None


class Records:
    """A compiled host, executed as the kernel does."""

    def __init__(self, virtual_host: VirtualHost) -> None:
        self.compiled = compile_virtual_host(virtual_host)
        self.tables = merge_tables([Fragment.of(self.compiled.records)])
        candidates = find_candidates(virtual_host, (), Budget())
        self.fields = {condition.field for candidate in candidates for condition in candidate.conditions}

    def find(self, subject: Subject, chance: int = 0) -> int | Handover:
        """The index of the route, or why there is none."""
        of = values_of(subject)
        values = {field.id: of(field) for field in self.fields if of(field)}
        try:
            taken = find_route(self.tables, self.compiled.link, values, lambda: chance)
        except HandedOver as why:
            return why.reason
        is_none = (taken.action, taken.target) == (Action.HANDOVER, Handover.NO_ROUTE)
        return Handover.NO_ROUTE if is_none else taken.route


def check(virtual_host: VirtualHost, random: Random, subjects: int) -> None:
    unions = Unions(budget=Budget())
    candidates = find_candidates(virtual_host, (), Budget())
    assert find_violations_in_candidates(candidates) == []
    try:
        graph = decide(candidates, unions)
    except BoundExceeded:
        assert compile_virtual_host(virtual_host).limit
        return
    assert find_violations_in_graph(graph, candidates, unions) == []
    records = Records(virtual_host)
    for _ in range(subjects):
        subject, chance = make_subject(random), random.randrange(1 << 32)
        draw = chance * MILLION >> 32
        want = find_plainly(virtual_host, subject, draw)
        is_repeated = any(len(values) > 1 for values in subject.headers.values())
        got = follow_graph(graph, values_of(subject), draw)
        assert got == want or (got == REPEATED and is_repeated), subject
        reasons = {None: Handover.NO_ROUTE, REPEATED: Handover.REPEATED}
        assert records.find(subject, chance) == reasons.get(got, got), subject


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 10))
def test_few_routes(seed: int, size: int) -> None:
    random = Random(seed)
    check(make_host(random, size), random, 10)


@pytest.mark.parametrize(("size", "seed"), [(70, 0), (70, 1), (130, 0), (130, 1), (300, 0)])
def test_many_routes(size: int, seed: int) -> None:
    """More than one decision has room for."""
    random = Random(seed)
    check(make_long_host(random, size), random, 60)


def test_splits_by_a_header_and_by_absence() -> None:
    """90 routes told apart by one header only; one of them takes those without it."""
    routes = [Route(match=RouteMatch(headers=(header("x-a", f"v{i}"),)), action=TO_A) for i in range(90)]
    absent = HeaderMatch(name="x-a", value=PresentMatch(is_present=False))
    routes[70] = Route(match=RouteMatch(headers=(absent,)), action=TO_A)
    records = Records(host(*routes))
    subject = Subject(method=b"GET", authority=b"a", path=b"/")
    for values, want in [((b"v3",), 3), ((b"v89",), 89), ((b"v",), Handover.NO_ROUTE), ((), 70)]:
        got = records.find(replace(subject, headers={"x-a": values} if values else {}))
        assert got == want
    assert records.find(replace(subject, headers={"x-a": (b"v1", b"v2")})) is Handover.REPEATED


def test_a_split_whose_match_is_no_route() -> None:
    """Where a value matches and no route is left, the link must not fall through to that of no match."""
    not_a = replace(header("x-a", "a", StringKind.PREFIX), is_inverted=True)
    headers = [(not_a, header("x-b", f"{i}")) for i in range(40)]
    headers += [(header("x-a", "ab"), header("x-b", f"{i}")) for i in range(40)]
    virtual_host = host(*(Route(match=RouteMatch(headers=both), action=TO_A) for both in headers))
    graph = decide(find_candidates(virtual_host, (), Budget()), Unions(budget=Budget()))
    assert any(isinstance(step, Take) and step.way == HandOver(Handover.NO_ROUTE) for step in graph.steps)
    records = Records(virtual_host)
    for value, want in [(b"a", Handover.NO_ROUTE), (b"ab", 43), (b"b", 3)]:
        subject = Subject(method=b"GET", authority=b"a", path=b"/", headers={"x-a": (value,), "x-b": (b"3",)})
        assert records.find(subject) == want


# What becomes of a request


def first_route(compiled: CompiledHost) -> tuple[int, int]:
    """(action, target) of a host whose link is a route."""
    assert compiled.link & 3 == LinkKind.ROUTE
    (value,) = [value for name, _, value in compiled.records if name is MapName.ROUTE]
    fields = ROUTE.unpack(value)
    return int(fields["action"]), int(fields["target"])


@pytest.mark.parametrize(
    ("route", "of_host", "of_config", "want"),
    [
        pytest.param(Route(action=DirectResponse(status=200)), "", "", Handover.ACTION, id="direct_response"),
        pytest.param(
            Route(action=TO_A, features=(Feature(name="RouteAction.prefix_rewrite", path=""),)), "", "",
            Handover.ACTION, id="route_relay",
        ),
        pytest.param(Route(action=TO_A), "VirtualHost.cors", "", Handover.WAYPOINT, id="host_waypoint"),
        pytest.param(
            Route(action=TO_A), "VirtualHost.cors", "RouteConfiguration.vhds", Handover.REFUSED, id="config_refused"
        ),
        pytest.param(Route(action=TO_A), "what.nobody_knows", "", Handover.REFUSED, id="unknown"),
        pytest.param(
            Route(match=RouteMatch(unsupported=("RouteMatch.filter_state",)), action=TO_A), "", "",
            Handover.REFUSED, id="condition",
        ),
        pytest.param(
            Route(match=RouteMatch(path=path("(", PathKind.REGEX)), action=TO_A), "", "",
            Handover.REFUSED, id="regex_invalid",
        ),
        pytest.param(
            Route(match=RouteMatch(path=path(r"/\pL", PathKind.REGEX)), action=TO_A), "", "",
            Handover.REFUSED, id="regex_unsupported",
        ),
    ],
)  # fmt: skip
def test_handed_over(route: Route, of_host: str, of_config: str, want: Handover) -> None:
    of = [(Feature(name=name, path=""),) if name else () for name in (of_host, of_config)]
    compiled = compile_virtual_host(host(route, features=of[0]), of[1])
    assert first_route(compiled) == (Action.HANDOVER, want)


def test_a_condition_on_what_proxies_set_narrows_nothing() -> None:
    """Envoy writes the header before it looks: a request without it may well match."""
    match = RouteMatch(headers=(header("x-request-id", "a"),), unsupported=(PROXY_HEADER_MATCH,))
    compiled = compile_virtual_host(host(Route(match=match, action=TO_A), Route(action=TO_A)))
    assert first_route(compiled) == (Action.HANDOVER, Handover.REFUSED)


def test_no_route() -> None:
    assert compile_virtual_host(host()) == CompiledHost(name="v", link=0, records=())


def test_what_a_host_looks_at_and_leads_to() -> None:
    weighted = WeightedClusters(clusters=(WeightedCluster("b", 1), WeightedCluster("c", 2), WeightedCluster("d", 0)))
    parameters = (QueryParameterMatch(name="q", value=PresentMatch()),)
    headers = (header("x-a", "1"), header(":method", "GET"), header(":authority", "x"))
    compiled = compile_virtual_host(
        host(
            Route(match=RouteMatch(headers=headers, is_grpc=True), action=TO_A),
            Route(match=RouteMatch(query_parameters=parameters), action=weighted),
            Route(action=DirectResponse(status=404)),
            Route(match=RouteMatch(headers=(header("x-never", ""),)), action=ClusterAction(cluster="never")),
        )
    )
    assert compiled.headers == {"x-a", "content-type"}
    assert compiled.parameters == {"q"}
    assert compiled.clusters == {"a", "b", "c"}


@pytest.mark.parametrize("steps", [1, 10_000])
def test_it_leads_where_the_relay_sends_its_requests_too(steps: int) -> None:
    rewritten = Route(action=TO_A, features=(Feature(name="RouteAction.prefix_rewrite", path=""),))
    compiled = compile_virtual_host(host(rewritten), bounds=replace(DEFAULT_BOUNDS, steps_of_work=steps))
    assert compiled.clusters == {"a"}


# Bounds


def many_chances(count: int) -> VirtualHost:
    return host(*(Route(match=RouteMatch(per_million=n + 1), action=TO_A) for n in range(count)))


LONG = StringMatch(kind=StringKind.REGEX, text=".*a[ab]{16}")


@pytest.mark.parametrize(
    ("virtual_host", "bounds", "want"),
    [
        pytest.param(many_chances(16), DEFAULT_BOUNDS, OverBound("steps on one way", 17, 16), id="steps"),
        pytest.param(
            host(Route(match=RouteMatch(headers=(HeaderMatch(name="x-a", value=LONG),)), action=TO_A)),
            DEFAULT_BOUNDS, OverBound("subset states", 10_001, 10_000), id="automaton",
        ),
        pytest.param(
            host(Route(match=RouteMatch(headers=tuple(header(f"x-{n}", "a") for n in range(13))), action=TO_A)),
            DEFAULT_BOUNDS, OverBound("tests for one route", 13, 12), id="tests",
        ),
        pytest.param(
            host(Route(action=WeightedClusters(clusters=tuple(WeightedCluster(f"{n}", 1) for n in range(4097))))),
            DEFAULT_BOUNDS, OverBound("weighted clusters", 4097, 4096), id="weighted",
        ),
    ],
)  # fmt: skip
def test_over_a_bound(virtual_host: VirtualHost, bounds: Bounds, want: OverBound) -> None:
    compiled = compile_virtual_host(virtual_host, bounds=bounds)
    assert compiled.limit == want
    assert first_route(compiled) == (Action.HANDOVER, Handover.BOUND)
    assert [name for name, _, _ in compiled.records] == [MapName.ROUTE]
    assert not compiled.headers | compiled.parameters


def test_just_within_bounds() -> None:
    compiled = compile_virtual_host(many_chances(15))
    assert compiled.limit is None
    tests = tuple(header(f"x-{n}", "a") for n in range(12))
    assert compile_virtual_host(host(Route(match=RouteMatch(headers=tests), action=TO_A))).limit is None


NESTED = [path("/" + "a" * length) for length in range(120, 0, -1)]
FEW_STEPS = Bounds(steps_of_work=50_000)


def on_header(text: str, kind: StringKind) -> RouteMatch:
    return RouteMatch(headers=(header("x-a", text, kind),))


@pytest.mark.parametrize(
    "matches",
    [
        pytest.param([RouteMatch(path=p, headers=(header("x", p.text),)) for p in NESTED], id="nested_prefixes"),
        pytest.param([on_header(f".*v{n}[a-z]{{3}}.*", StringKind.REGEX) for n in range(60)], id="regexes"),
        pytest.param([on_header(f"v{n}", StringKind.CONTAINS) for n in range(60)], id="contained"),
        pytest.param([on_header(f"(a?){{150}}{n}", StringKind.REGEX) for n in range(9)], id="large_regexes"),
        pytest.param([RouteMatch(path=path(f"/{n}")) for n in range(3000)], id="vectors"),
        pytest.param([RouteMatch(path=path("/" + f"{n}" * 2000)) for n in range(99)], id="long_paths"),
        pytest.param(
            [
                RouteMatch(headers=(HeaderMatch(name="x", value=RangeMatch(start=n, end=n + 2**40)),))
                for n in range(60)
            ],
            id="ranges",
        ),
    ],
)
def test_work_is_bounded(matches: list[RouteMatch]) -> None:
    """Whatever takes so long; and a little more than the bound is spent before that is seen."""
    virtual_host = host(*(Route(match=match, action=TO_A) for match in matches))
    limit = compile_virtual_host(virtual_host, bounds=FEW_STEPS).limit
    assert limit is not None
    assert (limit.bound, limit.limit) == ("steps of work", 50_000)
    assert 50_000 < limit.needed < 100_000


def numbered(count: int) -> VirtualHost:
    """Each number begins others, and every value of x-a takes an automaton of its own: a page for each route."""
    matches = [RouteMatch(path=path(f"/{n}"), headers=(header("x-a", f"{n}"),)) for n in range(count)]
    return host(*(Route(match=match, action=TO_A) for match in matches))


def test_ten_thousand_routes_are_within_bounds() -> None:
    """With half of the work that may be spent."""
    compiled = compile_virtual_host(numbered(10_000), bounds=Bounds(steps_of_work=5_000_000))
    assert compiled.limit is None


def test_the_size_of_records_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmesh.compiler.routes.write_graph.RECORD_BYTES", 100_000)
    limit = compile_virtual_host(numbered(100)).limit
    assert limit is not None
    assert (limit.bound, limit.limit) == ("bytes of records", 100_000)
