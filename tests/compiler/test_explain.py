"""What becomes of one request: the listener as connect() finds it, the route, and a path that is true today."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kmesh.compiler import Compiler
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
    typed,
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


def test_rejected_routes_say_what_failed() -> None:
    got = ask(BY_ROUTES, target=b"/d", headers=((b"x-a", b"c"),))
    assert got.rejected == (
        "route first: prefix '/a': the path is '/d'",
        "route 1: header x-a: exact 'b', and it is 'c'",
        "route 2: prefix '/r': the path is '/d'",
    )


def test_requests_that_no_route_takes_are_the_relays_to_answer() -> None:
    got = ask(BY_ROUTES)
    assert (got.path, got.why) == (Path.RELAY, ("no route of the virtual host takes it: the relay answers",))


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ((b"Connection", b"keep-alive"), Path.KERNEL),
        ((b"Connection", b"close"), Path.KERNEL),
        ((b"Content-Length", b"65536"), Path.KERNEL),
        ((b"Content-Length", b"65537"), Path.RELAY),
        ((b"Content-Length", b"+5"), Path.RELAY),
        ((b"Transfer-Encoding", b"chunked"), Path.RELAY),
        ((b"Expect", b"100-continue"), Path.RELAY),
        ((b"Upgrade", b"websocket"), Path.RELAY),
    ],
)
def test_where_a_request_ends_says_who_carries_it(header: tuple[bytes, bytes], path: Path) -> None:
    got = of_path(by_path(path_route("/a", route={"cluster": "c0", **OFF})), headers=(header,))
    assert got[0] is path
    assert (path is Path.KERNEL) == ("matched in the kernel, request by request" in got[1])


def test_units_that_are_compiled_already_are_used() -> None:
    compilation = Compiler().compile(BY_ROUTES)
    destination, request = SocketAddress.parse(HOST, 80), Request(headers=((b"Host", b"shop"),), target=b"/a")
    got = explain(BY_ROUTES, destination, request, routings=compilation.routings)
    assert got == explain(BY_ROUTES, destination, request)


def test_a_redirect_by_regular_expression() -> None:
    destination, request = SocketAddress.parse(HOST, 80), Request(headers=((b"Host", b"shop"),), target=b"/ua")
    got = explain(BY_ROUTES, destination, request, replace_regex=lambda _rewrite, path: path.replace(b"a", b"b"))
    assert got.action == {"kind": "redirect", "status": 301, "location": "http://shop/ub"}


def test_a_cluster_that_speaks_http2_only() -> None:
    h2 = {"http2_protocol_options": {}}
    held = snapshot(on("web", HOST, 80, http_manager([path_route("/a", route={"cluster": "h2", **OFF})])))
    spoken = cluster.TYPE.decode(encode("CDS", static_cluster(name="h2", **h2)))[1]
    held = replace(
        held,
        clusters={**held.clusters, "h2": spoken},
        assignments={**held.assignments, "h2": spoken.assignment},  # type: ignore[attr-defined]
    )
    got = ask(held, target=b"/a")
    assert got.path is Path.REFUSED
    assert got.why[-1] == "cluster h2: HTTP/2 whatever the client speaks: its requests are refused"


def test_connections_that_are_refused_for_good() -> None:
    got = ask(snapshot(on("web", HOST, 80, http_manager(route_config={"name": "r"}))))
    assert (got.path, got.why) == (Path.REFUSED, ("connections are refused at connect: no_route",))


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


def test_filter_chain_that_first_bytes_tell() -> None:
    """As istiod's listeners of ports that it was told of, where other protocols go to their destination."""
    http = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    held = snapshot(
        on(
            "auto",
            HOST,
            80,
            filter_chains=[filter_chain(http_manager(ROUTES), filter_chain_match=http)],
            default_filter_chain=filter_chain(tcp_proxy(cluster="d")),
            listener_filters=[typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")],
        )
    )
    got = ask(held, target=b"/r")
    assert (got.action, got.path) == (
        {"kind": "redirect", "status": 301, "location": "http://other/r"},
        Path.RELAY,
    )


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


OFF = {"timeout": "0s"}
KERNEL = ("matched in the kernel, request by request",)


def by_path(*routes: dict[str, Any], host: dict[str, Any] | None = None, **manager: Any) -> Snapshot:
    """With a last route that sends what is left to another cluster, so that requests are routed one by one."""
    hosts = [{"name": "v", "domains": ["*"], "routes": [*routes, route_to("d")], **(host or {})}]
    return snapshot(on("web", HOST, 80, http_manager(route_config={"name": "r", "virtual_hosts": hosts}, **manager)))


def to_c(**action: Any) -> dict[str, Any]:
    return path_route("/a", route={"cluster": "c", **OFF, **action})


def of_path(held: Snapshot, **request: Any) -> tuple[Path, tuple[str, ...]]:
    got = ask(held, **{"target": b"/a", **request})
    return got.path, got.why


CORS = {"cors": {"allow_origin_string_match": [{"exact": "a"}]}}
REWRITE = {"prefix_rewrite": "/b"}
REWRITE_WHY = "RouteAction.prefix_rewrite: relay: the head is rewritten in user space before it goes on"
CORS_WHY = "RouteAction.cors: waypoint: answers preflight requests, which a filter does"


@pytest.mark.parametrize(
    ("held", "path", "why"),
    [
        pytest.param(by_path(to_c()), Path.KERNEL, KERNEL, id="kernel"),
        pytest.param(by_path(to_c(**REWRITE)), Path.RELAY, (REWRITE_WHY,), id="feature of the route"),
        pytest.param(by_path(to_c(**CORS)), Path.WAYPOINT, (CORS_WHY,), id="of a waypoint"),
        pytest.param(by_path(to_c(**REWRITE, **CORS)), Path.WAYPOINT, (REWRITE_WHY, CORS_WHY), id="the furthest"),
        pytest.param(
            by_path(to_c(), host={"request_headers_to_remove": ["x"]}),
            Path.RELAY,
            (
                "VirtualHost.request_headers_to_remove: relay: the kernel passes the bytes of a head on as they"
                " are, so it is rewritten in user space",
            ),
            id="feature of the virtual host",
        ),
        pytest.param(
            by_path(path_route("/a", non_forwarding_action={})),
            Path.RELAY,
            ("Route.non_forwarding_action: relay: answered as Envoy's router does, with no cluster to go to",),
            id="action",
        ),
        pytest.param(
            by_path(to_c(metadata_match={"filter_metadata": {"envoy.lb": {"a": "b"}}})),
            Path.REFUSED,
            ("RouteAction.metadata_match: refused: endpoints are not yet told apart by metadata",),
            id="feature that nothing does",
        ),
        pytest.param(
            by_path({"match": {"safe_regex": {"regex": r"/\pL"}}, "route": {"cluster": "c", **OFF}}),
            Path.REFUSED,
            (r"a condition that nothing here can decide: the Unicode class \pL",),
            id="condition",
        ),
        pytest.param(
            by_path({"match": {"safe_regex": {"regex": "/(a|b)*a(a|b){15}"}}, "route": {"cluster": "c", **OFF}}),
            Path.RELAY,
            ("the matcher of virtual host 'v' needs 10,001 subset states or more, and the limit is 10,000",),
            id="bound",
        ),
        pytest.param(
            by_path(path_route("/a", route={"cluster": "empty", **OFF})),
            Path.KERNEL,
            (*KERNEL, "cluster empty: connections are refused: blackhole"),
            id="cluster that refuses",
        ),
    ],
)
def test_path_of_a_route(held: Snapshot, path: Path, why: tuple[str, ...]) -> None:
    assert of_path(held) == (path, why)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        pytest.param({"target": b"http://shop/a"}, "the target does not begin with a slash", id="absolute form"),
        pytest.param(
            {"method": b"PURGE"},
            "the kernel takes GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH and TRACE only",
            id="method",
        ),
        pytest.param(
            {"target": b"//a"},
            "the path or Host has what the listener's normalisation may change",
            id="normalisation",
        ),
        pytest.param(
            {"headers": ((b"Host", b"a"),)},
            "Host is missing, repeated, empty, no host, or longer than 168 bytes",
            id="two hosts",
        ),
        pytest.param(
            {"headers": ((b"x", b"y" * 8192),)},
            "the head has 8,192 bytes or more, and the kernel reads fewer",
            id="long",
        ),
        pytest.param(
            {"headers": ((b"x y", b""),)},
            "the head is not what the kernel's strict reader takes: the relay reads it, or answers 400",
            id="malformed",
        ),
        pytest.param(
            {"headers": ((b"accept", b"a"), (b"accept", b"b"))},
            "a header that routes look at comes more than once, and its values count as one",
            id="repeated",
        ),
    ],
)
def test_head_that_is_the_relays(request_: dict[str, Any], why: str) -> None:
    by_header = to_c()
    by_header["match"]["headers"] = [{"name": "accept", "string_match": {"exact": "a,b"}}]
    held = by_path(by_header, to_c(), merge_slashes=True)
    assert of_path(held, **request_) == (Path.RELAY, (why,))


def test_head_and_route_both_have_their_reasons() -> None:
    held = by_path(to_c(**CORS), merge_slashes=True)
    want = ("the path or Host has what the listener's normalisation may change", CORS_WHY)
    assert of_path(held, target=b"//a") == (Path.WAYPOINT, want)


def test_host_that_no_virtual_host_is_for() -> None:
    got = of_path(by_path(to_c(), host={"domains": ["other"]}))
    assert got == (Path.RELAY, ("no virtual host is for this Host: the relay answers",))
