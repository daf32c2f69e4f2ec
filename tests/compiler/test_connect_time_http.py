"""Which HTTP listeners are decided at connect, and where the requests of the others go."""

from __future__ import annotations

import pytest

from kmesh.compiler import Compilation, Compiler
from kmesh.compiler.interpreter.requests import match_request
from kmesh.compiler.routes.unit import routing_id
from kmesh.model.address import SocketAddress
from kmesh.model.limitation import Effect
from kmesh.records.constants import Handover, Reason
from kmesh.records.digest import name_id
from tests.support.distribution import measure
from tests.support.snapshot_text import parse_address, read_snapshot

SERVICE = parse_address("10.96.0.1:80")
A = parse_address("10.0.0.1:80")
NAMES = {name_id("cluster", name): name for name in ("a", "b", "h2")}
SNAPSHOT = """
listeners:
  l: {{addresses: ["10.96.0.1:80"], filter_chains: [{{network: !HttpConnectionManager {{rds_name: r}}}}]}}
route_configs: {{{routes}}}
clusters: {{a: {{discovery: STATIC}}, b: {{discovery: STATIC}}, h2: {{discovery: STATIC, upstream_http: HTTP2}}}}
assignments:
  a: {{localities: [{{locality: {{}}, endpoints: ["10.0.0.1:80"]}}]}}
  b: {{localities: [{{locality: {{}}, endpoints: ["10.0.0.2:80"]}}]}}
  h2: {{localities: [{{locality: {{}}, endpoints: ["10.0.0.3:80"]}}]}}
"""


def route(cluster: str, *, matches_all: bool = True) -> str:
    path = "/" if matches_all else "/x"
    return f"{{match: {{path: {{text: {path}}}}}, action: !ClusterAction {{cluster: {cluster}}}}}"


def host(domain: str, *routes: str) -> str:
    return f'{{name: x, domains: ["{domain}"], routes: [{", ".join(routes)}]}}'


def routes(*hosts: str) -> str:
    return f"r: {{virtual_hosts: [{', '.join(hosts)}]}}"


REDIRECT = "{match: {path: {text: /x}}, action: !Redirect {path: /y}}"


@pytest.mark.parametrize(
    ("config", "want", "feature"),
    [
        pytest.param(routes(host("*", route("a"))), A, "", id="one_route"),
        pytest.param(routes(host("*", route("a", matches_all=False), route("a"))), A, "", id="all_to_one_cluster"),
        pytest.param(routes(host("x", route("a")), host("*", route("a"))), A, "", id="all_hosts_to_one_cluster"),
        pytest.param(routes(host("*", route("a"), route("b"))), A, "", id="routes_behind_the_last"),
        pytest.param(routes(host("*", route("gone"))), Reason.NO_CLUSTER, "no such cluster", id="missing_cluster"),
        pytest.param("", Reason.NO_ROUTE, "", id="missing_route_config"),
        pytest.param(routes(), Reason.NO_ROUTE, "", id="no_virtual_host"),
    ],
)
def test_decided_at_connect(config: str, want: SocketAddress | Reason, feature: str) -> None:
    got = Compiler().compile(read_snapshot(SNAPSHOT.format(routes=config)))
    assert measure(got.image, SERVICE) == {want: 1}
    assert got.routings == {}
    assert [report.feature for report in got.reports] == ([feature] if feature else [])


@pytest.mark.parametrize(
    ("config", "want", "reports"),
    [
        pytest.param(
            routes(host("*", route("a", matches_all=False), route("b"))),
            {("x", "/x"): "a", ("x", "/y"): "b"},
            [],
            id="two_clusters",
        ),
        pytest.param(
            routes(host("x", route("b")), host("*", route("a"))),
            {("x", "/"): "b", ("y", "/"): "a"},
            [],
            id="two_clusters_by_host",
        ),
        pytest.param(
            routes(host("*", REDIRECT, route("a"))),
            {("x", "/x"): Handover.ACTION, ("x", "/y"): "a"},
            [("Route.redirect", Effect.RELAYED)],
            id="other_action",
        ),
        pytest.param(
            routes(host("*", route("a", matches_all=False))),
            {("x", "/x"): "a", ("x", "/y"): Handover.NO_ROUTE},
            [],
            id="some_requests_without_route",
        ),
        pytest.param(
            routes(host("*")),
            {("x", "/"): Handover.NO_ROUTE},
            [],
            id="host_without_routes",
        ),
        pytest.param(
            routes(host("x", route("a"))),
            {("x", "/"): "a", ("y", "/"): Handover.NO_VIRTUAL_HOST},
            [],
            id="some_hosts_unknown",
        ),
        pytest.param(
            routes(host("*", route("h2"))),
            {("x", "/"): "h2"},
            [("HTTP/2 whatever the client speaks", Effect.REFUSED)],
            id="http2_upstream",
        ),
    ],
)
def test_decided_for_each_request(
    config: str, want: dict[tuple[str, str], str | Handover], reports: list[tuple[str, Effect]]
) -> None:
    """At connect such a connection leads to routes, by which each (Host, path) goes its own way."""
    got = Compiler().compile(read_snapshot(SNAPSHOT.format(routes=config)))
    assert measure(got.image, SERVICE) == {Reason.ROUTED: 1}
    assert {request: follow(got, *request) for request in want} == want
    assert [(report.feature, report.effect) for report in got.reports] == reports


def follow(compilation: Compilation, authority: str, path: str) -> str | Handover:
    """The cluster that a request goes to, or why it is handed over."""
    (unit,) = compilation.routings
    matched = match_request(
        compilation.image.tables(),
        routing_id(unit),
        f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode(),
        port=SERVICE.port,
        draw=lambda: 0,
        cursors={},
    )
    return matched.handover or NAMES[matched.cluster]
