"""What becomes of one request: the listener as connect() finds it, the route, and a path that is true today."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.compiler.explain import Explanation, Path, explain
from kmesh.compiler.semantics import Request
from kmesh.model.address import SocketAddress
from kmesh.model.snapshot import Snapshot
from kmesh.xds.resources import cluster, listener, route
from tests.support.resources import (
    encode,
    filter_chain,
    http_manager,
    route_to,
    socket_address,
    static_cluster,
    tcp_proxy,
)
from tests.support.resources import listener as build_listener

HOST = "10.96.0.1"


def snapshot(*listeners: dict[str, Any], routes: tuple[dict[str, Any], ...] = ()) -> Snapshot:
    clusters = [cluster.TYPE.decode(encode("CDS", static_cluster(name=name)))[1] for name in ("c", "d")]
    empty = cluster.TYPE.decode(encode("CDS", {"name": "empty", "type": "STATIC"}))[1]
    by_name: Any = {c.name: c for c in (*clusters, empty)}  # type: ignore[attr-defined]
    return Snapshot(
        listeners=dict(listener.TYPE.decode(encode("LDS", body)) for body in listeners),  # type: ignore[arg-type]
        route_configs=dict(route.TYPE.decode(encode("RDS", body)) for body in routes),  # type: ignore[arg-type]
        clusters=by_name,
        assignments={name: c.assignment for name, c in by_name.items()},
    )


def on(name: str, ip: str, port: int, *filters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return build_listener(*filters, name=name, address=socket_address(ip, port), **more)


def ask(held: Snapshot, ip: str = HOST, port: int = 80, **request: Any) -> Explanation:
    headers = ((b"Host", b"shop"), *request.pop("headers", ()))
    return explain(held, SocketAddress.parse(ip, port), Request(headers=headers, **request))


def path_route(prefix: str, name: str = "", **action: Any) -> dict[str, Any]:
    return {"name": name, "match": {"prefix": prefix}, **action}


ROUTES = [
    path_route("/a", "first", route={"cluster": "c"}),
    {
        "match": {"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "b"}}]},
        "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 90}, {"name": "d", "weight": 10}]}},
    },
    path_route("/r", redirect={"host_redirect": "other"}),
    path_route("/d", direct_response={"status": 418}),
    path_route("/u", redirect={"regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "b"}}),
]
BY_ROUTES = snapshot(on("web", HOST, 80, http_manager(ROUTES)))


@pytest.mark.parametrize(
    ("request_", "route_", "action"),
    [
        pytest.param({"target": b"/a"}, "first", {"kind": "cluster", "cluster": "c"}, id="cluster"),
        pytest.param(
            {"headers": ((b"X-A", b"b"),)}, 1, {"kind": "weighted", "clusters": {"c": 90, "d": 10}}, id="weighted"
        ),
        pytest.param(
            {"target": b"/r?q"}, 2, {"kind": "redirect", "status": 301, "location": "http://other/r?q"}, id="redirect"
        ),
        pytest.param({"target": b"/d"}, 3, {"kind": "direct_response", "status": 418}, id="direct response"),
        pytest.param({"target": b"/"}, None, {"kind": "no_route", "status": 404}, id="no route"),
        pytest.param({"target": b"/#"}, None, {"kind": "no_route", "status": 400}, id="bad request"),
        pytest.param(
            {"target": b"/u"}, 4, {"kind": "undecided", "feature": "RedirectAction.regex_rewrite"}, id="undecided"
        ),
    ],
)
def test_route(request_: dict[str, Any], route_: str | int | None, action: dict[str, Any]) -> None:
    got = ask(BY_ROUTES, **request_)
    assert (got.listener, got.route_config) == ("web", "inline")
    assert (got.route, got.action) == (route_, action)
    assert got.is_found is (action["kind"] != "no_route")
    assert got.path is Path.REFUSED, "requests are not yet routed one by one"


def test_rejected_routes_say_what_failed() -> None:
    got = ask(BY_ROUTES, target=b"/d", headers=((b"x-a", b"c"),))
    assert got.rejected == (
        "route first: prefix '/a': the path is '/d'",
        "route 1: header x-a: exact 'b', and it is 'c'",
        "route 2: prefix '/r': the path is '/d'",
    )


def test_refusals_are_explained() -> None:
    got = ask(BY_ROUTES)
    assert len(got.why) == 2
    assert "requests are not yet routed one by one" in got.why[0]
    assert got.why[1] == "connections are refused at connect: unsupported"


def test_one_cluster_is_decided_at_connect() -> None:
    rds = {"config_source": {"ads": {}}, "route_config_name": "r"}
    hosts = [{"name": "v", "domains": ["*"], "routes": [route_to("c")]}]
    got = ask(snapshot(on("web", HOST, 80, http_manager(rds=rds)), routes=({"name": "r", "virtual_hosts": hosts},)))
    assert (got.route_config, got.virtual_host, got.route, got.path) == ("r", "v", 0, Path.KERNEL)


@pytest.mark.parametrize(
    ("ip", "port", "want"),
    [
        pytest.param(HOST, 80, "own", id="address and port"),
        pytest.param("10.96.0.2", 80, "port", id="wildcard with the port"),
        pytest.param("10.96.0.2", 81, "any", id="original destination"),
        pytest.param("2001:db8::1", 80, None, id="another family"),
    ],
)
def test_listener(ip: str, port: int, want: str | None) -> None:
    held = snapshot(
        on("own", HOST, 80),
        on("port", "0.0.0.0", 80, bind_to_port=False),
        on("any", "0.0.0.0", 15001, use_original_dst=True),
    )
    got = ask(held, ip, port)
    assert got.listener == want
    assert got.path is (Path.KERNEL if want else Path.DIRECT)


def test_filter_chain_of_plaintext_http() -> None:
    """As istiod's listeners of ports whose protocol it was not told."""
    http = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    chains = [
        filter_chain(tcp_proxy(cluster="d"), filter_chain_match={"transport_protocol": "tls"}),
        filter_chain(http_manager([route_to("c")]), filter_chain_match=http),
    ]
    default = filter_chain(tcp_proxy(cluster="d"))
    got = ask(snapshot(on("auto", HOST, 80, filter_chains=chains, default_filter_chain=default)))
    assert (got.action, got.path) == ({"kind": "cluster", "cluster": "c"}, Path.REFUSED)


def test_filter_chain_that_the_client_decides() -> None:
    chains = [filter_chain(tcp_proxy(cluster="d"), filter_chain_match={"source_ports": [n]}) for n in (1, 2)]
    got = ask(snapshot(on("l", HOST, 80, filter_chains=chains)))
    assert got.action == {"kind": "undecided", "feature": "filter_chain_match"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("empty", "connections are refused: blackhole", id="no endpoint"),
        pytest.param("missing", "no such cluster: refused: connections that lead to it are refused", id="no cluster"),
    ],
)
def test_cluster_that_refuses(name: str, reason: str) -> None:
    got = ask(snapshot(on("l", HOST, 80, tcp_proxy(cluster=name))))
    assert (got.path, got.why) == (Path.REFUSED, (f"cluster {name}: {reason}",))


def test_route_configuration_that_is_missing() -> None:
    rds = {"config_source": {"ads": {}}, "route_config_name": "r"}
    got = ask(snapshot(on("web", HOST, 80, http_manager(rds=rds))))
    assert (got.action, got.path) == ({"kind": "no_route", "status": 404}, Path.REFUSED)
    assert got.why[0] == "there is no route configuration 'r'"


def test_routes_taken_by_chance() -> None:
    some = path_route("/", route={"cluster": "d"})
    some["match"]["runtime_fraction"] = {"default_value": {"numerator": 5}}
    got = ask(snapshot(on("web", HOST, 80, http_manager([some, route_to("c")]))))
    assert got.action == {"kind": "cluster", "cluster": "d"}
    assert got.why[0] == "the route takes 50000 of 1000000 requests by chance; the others go on to the next"
