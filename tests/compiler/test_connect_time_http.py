"""Which HTTP listeners are decided at connect, and where the requests of the others go."""

from __future__ import annotations

import pytest

from kmesh.compiler import Compilation, Compiler
from kmesh.compiler.interpreter.requests import match_request
from kmesh.compiler.ir import Undetected
from kmesh.compiler.routes.unit import routing_id
from kmesh.model.address import SocketAddress
from kmesh.model.limitation import Effect
from kmesh.model.listener import Detection
from kmesh.model.weighted_cluster import WeightedCluster
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


DETECTED = """
listeners:
  l:
    addresses: ["10.96.0.1:80"]
    detection: {{timeout_s: null, continues: true}}
    filter_chains: [{{match: {{{match}}}, network: !HttpConnectionManager {{rds_name: r}}}}{more}]
    default_filter_chain: {default}
route_configs: {{{routes}}}
clusters: {{a: {{discovery: STATIC}}, b: {{discovery: STATIC}}, h2: {{discovery: STATIC}}}}
assignments: {{}}
"""
ISTIOS = "transport_protocol: raw_buffer, application_protocols: [http/1.1, h2c]"
TO_B = "{network: !TcpProxy {clusters: [{name: b, weight: 1}]}}"
ONE, SEVERAL = routes(host("*", route("a"))), routes(host("*", route("a", matches_all=False), route("b")))
A_ONLY, B_ONLY = (WeightedCluster("a", 1),), (WeightedCluster("b", 1),)


def detected(match: str = ISTIOS, default: str = TO_B, config: str = ONE, more: str = "") -> Compilation:
    return Compiler().compile(read_snapshot(DETECTED.format(match=match, default=default, routes=config, more=more)))


@pytest.mark.parametrize(
    ("match", "default", "config", "clusters", "http2"),
    [
        pytest.param(ISTIOS, TO_B, ONE, B_ONLY, A_ONLY, id="http2_to_the_only_cluster"),
        pytest.param(ISTIOS, TO_B, SEVERAL, B_ONLY, (), id="http2_that_routes_differ_for"),
        pytest.param("application_protocols: [http/1.1]", TO_B, SEVERAL, B_ONLY, B_ONLY, id="http2_is_not_asked_for"),
        pytest.param(ISTIOS, "null", ONE, (), A_ONLY, id="no_other_chain"),
    ],
)
def test_http_that_is_known_by_its_first_bytes(
    match: str, default: str, config: str, clusters: tuple[WeightedCluster, ...], http2: tuple[WeightedCluster, ...]
) -> None:
    got = detected(match, default, config)
    assert measure(got.image, SERVICE) == {Reason.ROUTED: 1}
    (unit,) = got.routings.values()
    want = Undetected(clusters=clusters, http2=http2, detection=Detection(timeout_s=None, continues=True))
    assert unit.routing.undetected == want
    assert {cluster.name for cluster in (*clusters, *http2)} <= got.upstreams.keys()
    (report,) = got.reports
    assert (report.feature, report.effect) == ("connections that do not begin with HTTP/1.1", Effect.RELAYED)


@pytest.mark.parametrize("is_taken", [False, True])
def test_http10_that_is_known_by_its_first_bytes(is_taken: bool) -> None:
    """Istio's chains have it with PILOT_HTTP10."""
    match = ISTIOS.replace("http/1.1", "http/1.0, http/1.1") if is_taken else ISTIOS
    (unit,) = detected(match, TO_B, SEVERAL).routings.values()
    assert unit.routing.undetected and unit.routing.undetected.takes_http10 is is_taken


@pytest.mark.parametrize(
    ("match", "more"),
    [
        pytest.param("application_protocols: [http/1.1, istio]", "", id="another_protocol_too"),
        pytest.param("transport_protocol: tls, application_protocols: [http/1.1]", "", id="inside_tls"),
        pytest.param(f"source_ports: [7], {ISTIOS}", "", id="by_the_client_too"),
        pytest.param(
            ISTIOS,
            ", {match: {transport_protocol: tls}, network: !TcpProxy {clusters: [{name: h2, weight: 1}]}}",
            id="three_places",
        ),
    ],
)
def test_what_first_bytes_do_not_tell_is_refused(match: str, more: str) -> None:
    got = detected(match, more=more)
    assert measure(got.image, SERVICE) == {Reason.UNSUPPORTED: 1}


def test_chains_that_lead_to_one_place_need_no_detection() -> None:
    got = detected(default=TO_B.replace("b,", "a,"))
    assert got.routings == {}
