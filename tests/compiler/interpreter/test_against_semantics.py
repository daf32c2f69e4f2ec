"""Compiled records do what the semantics say, or hand over for the reason that decision 8 gives for that request.

MATCH_SEED repeats a run, MATCH_PAIRS (of a route configuration and a head) makes it longer. What is expected of a
pair is found from the model alone: by one regular expression, kmesh.compiler.semantics and the table of features.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from random import Random, SystemRandom
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kmesh.compiler.interpreter.requests import Matched, match_request
from kmesh.compiler.ir import Routing
from kmesh.compiler.reference import Tables
from kmesh.compiler.routes.unit import compile_routing, routing_id
from kmesh.compiler.semantics import Request, Routed, ToCluster, ToOneOf, route_request
from kmesh.maps.image import merge_tables
from kmesh.model.joined_headers import JOINED_HEADERS
from kmesh.model.listener import EscapedSlashes, Normalization, StripPort
from kmesh.model.match import (
    MILLION,
    HeaderMatch,
    PresentMatch,
    RangeMatch,
    RouteMatch,
    StringKind,
    StringMatch,
)
from kmesh.model.route import ClusterAction, Feature, Route, RouteConfiguration, VirtualHost
from kmesh.model.route_features import Place, classify
from kmesh.records.constants import LIMITS, Handover, Mark
from kmesh.records.digest import name_id
from tests.support.any_heads import any_head
from tests.support.plain_heads import FRAMING, NOT_READ, PlainHead, find_marks, hands_over, read_plain
from tests.support.plain_route_cases import make_plain_case
from tests.support.route_cases import make_case
from tests.support.route_oracle import PORT_MARK, Case, decode_case, write_request

SEED = int(os.environ.get("MATCH_SEED") or SystemRandom().randrange(2**32))
PAIRS = int(os.environ.get("MATCH_PAIRS") or 3000)
PORT = 80
HEADS = 50
"""Of each configuration."""
MILLION_OR_LESS = (1, 10_000, 500_000, 999_999)
FEATURES = ("RouteAction.prefix_rewrite", "RouteAction.cors", "RouteAction.metadata_match", "RouteAction.priority")
MORE_DOMAINS = ("*.*", "b*", "*a.*", "a:80", "b:1:80", "x*")
HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%\[\]-]+")
REASON_OF_PLACE = {
    Place.KERNEL: Handover.NONE,
    Place.RELAY: Handover.ACTION,
    Place.WAYPOINT: Handover.WAYPOINT,
    Place.REFUSED: Handover.REFUSED,
}
OF_ROUTES = {Handover.NO_VIRTUAL_HOST, Handover.NO_ROUTE, Handover.ACTION, Handover.WAYPOINT, Handover.REFUSED}
"""Reasons that are the configuration's own answer."""

Allowed = frozenset[Handover]
"""Handovers that a request may end in; NONE: it is routed as the semantics say."""


class Unit:
    """A configuration, compiled."""

    def __init__(self, config: RouteConfiguration, normalization: Normalization) -> None:
        self.config = config
        self.normalization = normalization
        unit = compile_routing(Routing(name="r", config=config, normalization=normalization))
        self.tables: Tables = merge_tables(fragment for _, fragment in unit.fragments)
        self._over_bound = {at for at, host in unit.hosts.items() if host.compiled.limit}

    def is_over_bound(self, routed: Routed) -> bool:
        """The request's virtual host takes too much, and is handed over whole."""
        host = routed.virtual_host
        return host is not None and host.domains[0] in self._over_bound

    def match(self, head: bytes, draws: list[int]) -> Matched:
        draw = iter(draws).__next__
        return match_request(self.tables, routing_id("r"), head, port=PORT, draw=draw, cursors={})

    def route(self, request: Request, draw: int) -> Routed:
        return route_request(self.config, self.normalization, request, port=PORT, draw=draw * MILLION >> 32)


# What is expected


def compare(unit: Unit, head: bytes, draws: list[int]) -> Handover:
    """Returns how the request ended."""
    got = unit.match(head, draws)
    plain = read_plain(head)
    if plain is None:
        assert got.handover in NOT_READ | ({Handover.FRAMING} if hands_over(head) else set()), got
        return got.handover
    routed = unit.route(plain.request, draws[0])
    if got.handover is Handover.BOUND:
        assert unit.is_over_bound(routed), routed
        return got.handover
    assert got.handover in allow(unit, head, plain, routed), (got, routed)
    if got.handover is Handover.NONE:
        assert got.route == routed.index
        assert got.cluster in {name_id("cluster", name) for name in clusters_of(routed)}
    return got.handover


def clusters_of(routed: Routed) -> set[str]:
    match routed.outcome:
        case ToCluster(name):
            return {name}
        case ToOneOf(clusters):
            return {weighted.name for weighted in clusters}
        case _:
            return set()


def allow(unit: Unit, head: bytes, plain: PlainHead, routed: Routed) -> Allowed:
    names = [name.lower().decode() for name, _ in plain.request.headers]
    looked_at = names_of(unit.config.virtual_hosts)
    reading = set()
    if plain.has_many_blanks & (looked_at | FRAMING):
        reading.add(Handover.MALFORMED)
    if count_fields(plain.request, looked_at) > LIMITS["REQUEST_FIELDS"]:
        reading.add(Handover.FIELDS)
    if hands_over(head[: plain.length]):
        return frozenset((Handover.FRAMING, *reading))
    hosts = [value for name, value in plain.request.headers if name.lower() == b"host"]
    early = find_early(unit, plain.request, hosts)
    if early:
        return frozenset((early, *reading))
    if routed.virtual_host and may_repeat(names, routed.virtual_host):
        reading.add(Handover.REPEATED)
    return frozenset((reason_of_route(unit.config, routed), *reading))


def find_early(unit: Unit, request: Request, hosts: list[bytes]) -> Handover | None:
    """Before any virtual host is looked for."""
    path = request.target.partition(b"?")[0]
    if find_marks(path) & relayed_marks(unit):
        return Handover.NORMALIZE
    if len(hosts) != 1 or len(hosts[0]) > LIMITS["HOST_BYTES"] or not HOST.fullmatch(hosts[0]):
        return Handover.HOST
    if unit.normalization.strips_trailing_dot and re.search(rb"\.(:|$)", hosts[0]):
        return Handover.NORMALIZE
    if unit.normalization.strip_port is not StripPort.NONE and re.search(rb":[0-9]{6,}$", hosts[0]):
        return Handover.NORMALIZE
    return None


def relayed_marks(unit: Unit) -> Mark:
    options = unit.normalization
    marks = Mark(0)
    if options.normalizes_path:
        marks |= Mark.DOT | Mark.PERCENT | Mark.BACKSLASH | Mark.ESCAPABLE
    if options.merges_slashes:
        marks |= Mark.DOUBLE_SLASH
    if options.escaped_slashes is not EscapedSlashes.KEEP_UNCHANGED:
        marks |= Mark.PERCENT
    if unit.config.ignores_path_parameters:
        marks |= Mark.PARAMETER
    return marks


def reason_of_route(config: RouteConfiguration, routed: Routed) -> Handover:
    if routed.virtual_host is None:
        return Handover.NO_VIRTUAL_HOST
    shared = (*config.features, *routed.virtual_host.features)
    if furthest(shared) is Place.REFUSED:
        return Handover.REFUSED
    if routed.route is None:
        return Handover.NO_ROUTE
    features = (*shared, *routed.route.features, Feature(name=routed.route.action.feature, path=""))
    return REASON_OF_PLACE[furthest(features)]


def furthest(features: tuple[Feature, ...]) -> Place:
    places = list(Place)
    return max((classify(feature.name).place for feature in features), key=places.index, default=Place.KERNEL)


def names_of(hosts: tuple[VirtualHost, ...]) -> set[str]:
    """Headers that some route looks at."""
    matches = [route.match for host in hosts for route in host.routes]
    names = {header.name for match in matches for header in match.headers}
    return names | {"content-type" for match in matches if match.is_grpc}


def count_fields(request: Request, names: set[str]) -> int:
    """At most: whether a query parameter is looked at is not asked."""
    headers = sum(name.lower().decode() in names | FRAMING for name, _ in request.headers)
    return 3 + headers + request.target.count(b"&") + request.target.count(b"?")


def may_repeat(names: list[str], host: VirtualHost) -> bool:
    """A header comes more than once, and is joined or may be what so many routes are split by."""
    repeated = {name for name in names_of((host,)) if names.count(name) > 1}
    return bool(repeated & JOINED_HEADERS) or (bool(repeated) and len(host.routes) > LIMITS["DECISION_BITS"])


# Random configurations


def make_unit(random: Random) -> tuple[Unit, Case]:
    """A case with more domains and features, and routes that take a part of the requests only."""
    case = random.choice((make_case, make_plain_case))(random)
    for host in case.routes["virtual_hosts"]:
        for route in host["routes"]:
            if random.random() < 0.1:
                share: dict[str, Any] = {"numerator": random.choice(MILLION_OR_LESS), "denominator": "MILLION"}
                route["match"]["runtime_fraction"] = {"default_value": share}
    manager = decode_case(case)
    assert manager.route_config
    return Unit(with_more(random, manager.route_config), manager.normalization), case


def with_more(random: Random, config: RouteConfiguration) -> RouteConfiguration:
    taken = {domain for host in config.virtual_hosts for domain in host.domains}
    more = [domain for domain in MORE_DOMAINS if domain not in taken and random.random() < 0.2]
    hosts = [
        replace(host, routes=tuple(map(partial(with_feature, random), host.routes))) for host in config.virtual_hosts
    ]
    hosts[0] = replace(hosts[0], domains=(*hosts[0].domains, *more))
    if random.random() < 0.05:
        hosts[0] = replace(
            hosts[0], features=(Feature(name=f"VirtualHost.{random.choice(('cors', 'matcher'))}", path=""),)
        )
    return replace(config, virtual_hosts=tuple(hosts))


def with_feature(random: Random, route: Route) -> Route:
    if random.random() < 0.9:
        return route
    return replace(route, features=(*route.features, Feature(name=random.choice(FEATURES), path="")))


def make_heads(random: Random, case: Case) -> Iterator[bytes]:
    for request in case.requests:
        yield write_request(request).replace(PORT_MARK, b"%d" % PORT)
    for _ in range(HEADS - len(case.requests)):
        yield any_head(random)


def test_random_configurations() -> None:
    print(f"MATCH_SEED={SEED}")
    ends: Counter[Handover] = Counter()
    for number in range(PAIRS // HEADS):
        random = Random(f"{SEED}/{number}")
        unit, case = make_unit(random)
        for head in make_heads(random, case):
            draws = [random.getrandbits(32) for _ in range(8)]
            try:
                ends[compare(unit, head, draws)] += 1
            except AssertionError as error:
                error.add_note(
                    f"MATCH_SEED={SEED}, configuration {number}: {unit.config}\n{unit.normalization}\n{head!r}"
                )
                raise
    expect_enough(ends)


def expect_enough(ends: Counter[Handover]) -> None:
    """Most of what is compared gets as far as routes, or the comparison says little."""
    total = ends.total()
    shares = {reason: count / total for reason, count in ends.items()}
    print(*(f"{reason.name} {share:.1%}" for reason, share in sorted(shares.items())))
    assert Handover.BROKEN not in ends
    assert ends[Handover.BOUND] < 0.05 * total
    assert ends[Handover.NONE] > 0.25 * total
    assert sum(ends[reason] for reason in (Handover.NONE, *OF_ROUTES)) > 0.6 * total
    assert ends[Handover.REPEATED] < 0.05 * total
    assert ends.keys() >= {*OF_ROUTES - {Handover.WAYPOINT}, Handover.NORMALIZE, Handover.HOST}


# Several conditions on one header, several values

NAMES = ("x-a", "x-b", "accept", ":authority", ":path")
VALUES = ("", "a", "ab", "b", "A", "1", "12", "a,b")
VALUE_MATCHES = st.one_of(
    st.builds(PresentMatch, is_present=st.booleans()),
    st.builds(RangeMatch, start=st.integers(-1, 3), end=st.integers(4, 13)),
    st.builds(
        StringMatch,
        kind=st.sampled_from([kind for kind in StringKind if kind is not StringKind.REGEX]),
        text=st.sampled_from([value for value in VALUES if value]),
        ignore_case=st.booleans(),
    ),
    st.builds(StringMatch, kind=st.just(StringKind.EXACT), text=st.just("")),
    st.builds(StringMatch, kind=st.just(StringKind.REGEX), text=st.sampled_from(("a*", "[^a]", "(?i)ab|1+"))),
)
HEADER_MATCHES = st.builds(
    HeaderMatch,
    name=st.sampled_from(NAMES),
    value=VALUE_MATCHES,
    is_inverted=st.booleans(),
    treats_missing_as_empty=st.booleans(),
)
ROUTES = st.lists(st.lists(HEADER_MATCHES, min_size=1, max_size=4), min_size=1, max_size=6)
HEADERS = st.lists(st.tuples(st.sampled_from(("x-a", "X-A", "x-b", "accept")), st.sampled_from(VALUES)), max_size=6)
TWICE = [("x-a", "a"), ("x-a", "b")]


@settings(max_examples=max(PAIRS // 20, 100), deadline=None)
@given(routes=ROUTES, headers=HEADERS)
@example(
    routes=[[HeaderMatch(name="x-a", value=StringMatch(kind=StringKind.EXACT, text="a"), is_inverted=True)]],
    headers=TWICE,
)
@example(
    routes=[[HeaderMatch(name="x-a", value=StringMatch(kind=StringKind.EXACT, text=text)) for text in "ab"]],
    headers=TWICE,
)
@example(
    routes=[[HeaderMatch(name="x-a", value=PresentMatch(is_present=False), treats_missing_as_empty=True)]], headers=[]
)
def test_conditions_on_headers(routes: list[list[HeaderMatch]], headers: list[tuple[str, str]]) -> None:
    rows = [Route(match=RouteMatch(headers=tuple(row)), action=to(number)) for number, row in enumerate(routes)]
    host = VirtualHost(name="v", domains=("*",), routes=tuple(rows))
    written = tuple((name.encode(), value.encode()) for name, value in (("host", "ab"), *headers))
    compare(make_plain_unit(host), write_request(Request(target=b"/ab", headers=written)), [0])


def make_plain_unit(*hosts: VirtualHost, **options: Any) -> Unit:
    return Unit(RouteConfiguration(name="r", virtual_hosts=hosts), Normalization(**options))


def to(number: int) -> ClusterAction:
    return ClusterAction(cluster=str(number))


# Hosts that are spelled like wildcards, or empty once their port is cut


@pytest.mark.parametrize(
    ("domains", "host"),
    [
        pytest.param(("*", "*.*", "a.*"), b"a.*", id="prefix_wildcard"),
        pytest.param(("*", "*.*", "*.x"), b"*.x", id="suffix_wildcard"),
        pytest.param(("*", "a*"), b"*", id="any"),
        pytest.param(("*", "*a", "a*"), b":80", id="empty"),
        pytest.param(("*a", "a*"), b":80", id="empty_without_any"),
    ],
)
def test_odd_hosts(domains: tuple[str, ...], host: bytes) -> None:
    """Each domain leads to a cluster of its own."""
    hosts = [
        VirtualHost(name=domain, domains=(domain,), routes=(Route(action=to(number)),))
        for number, domain in enumerate(domains)
    ]
    compare(
        make_plain_unit(*hosts, strip_port=StripPort.ANY), write_request(Request(headers=((b"host", host),))), [0]
    )
