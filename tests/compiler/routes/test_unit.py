"""A routing unit costs what changed: one virtual host's routes touch that virtual host and its way in the index."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kmesh.compiler.automata import Bounds
from kmesh.compiler.interpreter.requests import match_request
from kmesh.compiler.ir import Routing
from kmesh.compiler.routes.unit import RoutingUnit, compile_routing, routing_id
from kmesh.maps.diff import Ledger
from kmesh.maps.image import MapImage, MapName, merge_tables
from kmesh.model.listener import Normalization
from kmesh.model.match import HeaderMatch, PathKind, PathMatch, PresentMatch, RouteMatch
from kmesh.model.route import ClusterAction, Route, RouteConfiguration, VirtualHost
from kmesh.records.constants import Handover
from kmesh.records.digest import name_id

HEAD = b"GET /a HTTP/1.1\r\nHost: %s\r\n\r\n"


def make_host(number: int, cluster: str = "c", domains: tuple[str, ...] = ()) -> VirtualHost:
    path = PathMatch(kind=PathKind.EXACT, text="/a")
    route = Route(match=RouteMatch(path=path), action=ClusterAction(cluster=f"{cluster}{number}"))
    return VirtualHost(name=f"v{number}", domains=domains or (f"h{number}.x", f"h{number}"), routes=(route,))


def make_routing(*hosts: VirtualHost) -> Routing:
    config = RouteConfiguration(name="r", virtual_hosts=hosts)
    return Routing(name="r", config=config, normalization=Normalization())


def image_of(unit: RoutingUnit) -> MapImage:
    return MapImage(dict(unit.fragments))


def route(unit: RoutingUnit, host: bytes) -> int | Handover:
    """The id of the cluster, or why there is none."""
    tables = merge_tables(image_of(unit).fragments.values())
    matched = match_request(tables, routing_id("r"), HEAD % host, port=80, draw=lambda: 0, cursors={})
    return matched.handover or matched.cluster


def cluster(name: str) -> int:
    return name_id("cluster", name)


@pytest.mark.parametrize("count", [10, 1_000])
def test_changing_one_virtual_host_writes_its_own_records_and_its_way_in_the_index(count: int) -> None:
    hosts = [make_host(number) for number in range(count)]
    before = compile_routing(make_routing(*hosts))
    hosts[5] = make_host(5, "d")
    after = compile_routing(make_routing(*hosts), before)
    assert route(after, b"h5.x") == route(after, b"h5") == cluster("d5")
    assert route(after, b"h6.x") == cluster("c6")
    changed = {key for key, fragment in after.fragments if dict(before.fragments).get(key) is not fragment}
    assert changed == {("routes", "r"), ("virtual host", "r h5.x")}
    ledger = Ledger(image_of(before))
    delta = ledger.advance(image_of(after))
    written = {name: len(table) for name, table in delta.added.items() if table}
    levels = 1 if count == 10 else 2
    index_nodes = written.pop(MapName.INDEX)
    assert levels <= index_nodes <= levels + 1, "two domains lie in one leaf or in two"
    pages = written.pop(MapName.PAGE, 0)
    assert (pages, written) == (
        0 if pages == 0 else 1,
        {MapName.ROUTE: 1, MapName.DECISION: 1, MapName.DOMAIN: 2, MapName.ROUTES: 1},
    )


def test_an_equal_configuration_is_the_unit_that_it_was() -> None:
    before = compile_routing(make_routing(make_host(1)))
    assert compile_routing(make_routing(make_host(1)), before) is before


@pytest.mark.parametrize(
    "change",
    [
        lambda hosts: [*hosts, make_host(9)],
        lambda hosts: hosts[1:],
        lambda hosts: [replace(hosts[0], domains=("other",)), *hosts[1:]],
        lambda hosts: [replace(hosts[0], domains=("h0.x", "*.wild")), *hosts[1:]],
        lambda hosts: [*hosts, make_host(9, domains=("*",))],
        lambda hosts: hosts[::-1],
    ],
    ids=["added", "removed", "renamed", "wildcard", "any", "reordered"],
)
def test_a_unit_made_from_another_is_the_one_made_afresh(change: object) -> None:
    assert callable(change)
    hosts = [make_host(number) for number in range(5)]
    before = compile_routing(make_routing(*hosts))
    routing = make_routing(*change(hosts))
    after = compile_routing(routing, before)
    assert image_of(after).tables() == image_of(compile_routing(routing)).tables()


def test_wildcards_over_their_bound_are_the_relays_and_exact_domains_are_not() -> None:
    wild = make_host(1, domains=(f"*.{'a-long-name' * 9}.example",)), make_host(2, domains=("*",))
    routing = make_routing(make_host(0), *wild)
    unit = compile_routing(routing, bounds=Bounds(states=80))
    assert route(unit, b"h0.x") == cluster("c0")
    assert route(unit, b"b.%s.example" % (b"a-long-name" * 9)) == Handover.BOUND
    assert route(unit, b"whatever") == Handover.BOUND
    (report,) = unit.reports
    assert "80" in report.feature


def test_names_over_their_bound_are_the_relays_until_they_are_fewer() -> None:
    """Which a configuration of one does not make a failure of the compilation."""
    longest = HeaderMatch(name="x" * 400, value=PresentMatch())
    match = RouteMatch(headers=(longest,))
    asking = replace(make_host(0), routes=(Route(match=match, action=ClusterAction(cluster="c")),))
    bounds = Bounds(states=300)
    unit = compile_routing(make_routing(asking, make_host(1)), bounds=bounds)
    assert route(unit, b"h0.x") == route(unit, b"h1.x") == route(unit, b"else") == Handover.BOUND
    (report,) = unit.reports
    assert (report.name, "300" in report.feature) == ("of all domains of r", True)
    later = compile_routing(make_routing(make_host(0), make_host(1)), unit, bounds=bounds)
    assert route(later, b"h0.x") == cluster("c0")
    assert not list(later.reports)


def test_a_unit_without_virtual_hosts_knows_none() -> None:
    assert route(compile_routing(make_routing()), b"a") == Handover.NO_VIRTUAL_HOST
