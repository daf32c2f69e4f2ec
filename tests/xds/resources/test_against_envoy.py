"""The real Envoy decides what is invalid: `--mode validate` and the decoders must agree, but for what is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.envoy_verdict import are_accepted_by_envoy, is_accepted_here
from tests.support.resources import (
    endpoint,
    filter_chain,
    http_manager,
    route_to,
    socket_address,
    static_cluster,
    tcp_proxy,
    typed,
    udp_listener,
)
from tests.support.resources import (
    listener as build_listener,
)

MAX = 2**32 - 1
RR = {"typed_extension_config": typed("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin")}
PROVIDED = {
    "typed_extension_config": typed("envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided")
}
ROUTER = typed("envoy.extensions.filters.http.router.v3.Router", "router")
FAULT = typed("envoy.extensions.filters.http.fault.v3.HTTPFault", "fault")
REWRITE = {"pattern": {"regex": "(a)(b)"}, "substitution": ""}
UDP_PROXY = typed("envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", stat_prefix="x", cluster="c")


def groups(*localities: dict[str, Any], **more: Any) -> dict[str, Any]:
    load_assignment = {"cluster_name": "c", "endpoints": list(localities), **more}
    return {"name": "c", "type": "STATIC", "load_assignment": load_assignment}


def at(address: dict[str, Any]) -> dict[str, Any]:
    return static_cluster({"endpoint": {"address": address}})


def dns(kind: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return static_cluster(*endpoints) | {"type": kind}


def weights(*values: int) -> dict[str, Any]:
    return groups(*({"locality": {"zone": str(i)}, "load_balancing_weight": v} for i, v in enumerate(values)))


CLUSTERS: dict[str, dict[str, Any]] = {
    "static": static_cluster(),
    "port 70000": static_cluster(endpoint(port=70000)),
    "host name": static_cluster(endpoint("foo")),
    "no endpoint": static_cluster({}),
    "no address": static_cluster({"endpoint": {}}),
    "weight 0": static_cluster(endpoint(load_balancing_weight=0)),
    "locality weight 0": weights(0),
    "priority gap": groups({"lb_endpoints": [endpoint()], "priority": 2}),
    "priority 129": groups({"priority": 129}),
    "locality twice": groups({"lb_endpoints": [endpoint()]}, {"lb_endpoints": [endpoint(port=81)]}),
    "named port": at({"socket_address": {"address": "127.0.0.1", "named_port": "http"}}),
    "resolver": at(socket_address("127.0.0.1", 1, resolver_name="x")),
    "the resolver": at(socket_address("127.0.0.1", 1, resolver_name="envoy.ip")),
    "pipe": at({"pipe": {"path": "/x"}}),
    "leading zero": static_cluster(endpoint("010.0.0.1")),
    "zone": static_cluster(endpoint("fe80::1%1")),
    "wildcard": static_cluster(endpoint("0.0.0.0")),
    "v4-mapped": static_cluster(endpoint("::ffff:127.0.0.1")),
    "overprovisioning 0": groups(policy={"overprovisioning_factor": 0}),
    "other cluster_name": static_cluster() | {"name": "other"},
    "no load_assignment": {"name": "c", "type": "STATIC"},
    "no type": {"name": "c"},
    "no name": {"type": "STATIC"},
    "eds config of static": static_cluster(eds_cluster_config={}),
    "eds without config": {"name": "c", "type": "EDS"},
    "strict dns": dns("STRICT_DNS", endpoint("a.test"), endpoint("b.test")),
    "strict dns without host": dns("STRICT_DNS", endpoint("")),
    "logical dns": dns("LOGICAL_DNS", endpoint("a.test")),
    "logical dns of two": dns("LOGICAL_DNS", endpoint("a.test"), endpoint("b.test")),
    "logical dns of an address": dns("LOGICAL_DNS", endpoint()),
    "original_dst": {"name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"},
    "original_dst round robin": {"name": "c", "type": "ORIGINAL_DST"},
    "original_dst extension": {
        "name": "c",
        "type": "ORIGINAL_DST",
        "load_balancing_policy": {"policies": [PROVIDED]},
    },
    "original_dst with endpoints": static_cluster(lb_policy="CLUSTER_PROVIDED") | {"type": "ORIGINAL_DST"},
    "static provided": static_cluster(lb_policy="CLUSTER_PROVIDED"),
    "static provided by extension": static_cluster(load_balancing_policy={"policies": [PROVIDED]}),
    "policy config missing": static_cluster(lb_policy="LOAD_BALANCING_POLICY_CONFIG"),
    "no policies": static_cluster(load_balancing_policy={"policies": []}),
    "policy": static_cluster(load_balancing_policy={"policies": [RR]}),
    "panic threshold 101": static_cluster(common_lb_config={"healthy_panic_threshold": {"value": 101}}),
    "connect_timeout 0": static_cluster(connect_timeout="0s"),
    "dns_refresh_rate 0": static_cluster(dns_refresh_rate="0s"),
    "untyped transport": static_cluster(transport_socket={"name": "raw_buffer"}),
    "cluster type by name": {"name": "c", "cluster_type": {"name": "envoy.cluster.static"}},
    "unknown cluster type": {"name": "c", "cluster_type": {"name": "envoy.cluster.foo"}},
    "drop 101 %": groups(policy={"drop_overloads": [{"category": "a", "drop_percentage": {"numerator": 101}}]}),
    "port 0": static_cluster(endpoint(port=0)),
    "endpoint weights": static_cluster(endpoint(load_balancing_weight=MAX), endpoint(port=81)),
    "locality weights": weights(MAX, 1),
}


def chains(*matches: dict[str, Any]) -> dict[str, Any]:
    return build_listener(
        filter_chains=[filter_chain(tcp_proxy(cluster="c"), filter_chain_match=match) for match in matches]
    )


def hosts(*virtual_hosts: dict[str, Any]) -> dict[str, Any]:
    return build_listener(http_manager(route_config={"name": "r", "virtual_hosts": list(virtual_hosts)}))


def host(name: str, *domains: str) -> dict[str, Any]:
    return {"name": name, "domains": list(domains)}


def routes(*entries: dict[str, Any]) -> dict[str, Any]:
    return build_listener(http_manager(list(entries)))


def matching_header(condition: dict[str, Any]) -> dict[str, Any]:
    return route_to() | {"match": {"prefix": "/", "headers": [{"name": "a", **condition}]}}


def matching_path(regex: str) -> dict[str, Any]:
    return route_to() | {"match": {"safe_regex": {"regex": regex}}}


def replying(body: str) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": body}}}


def adding(name: str, value: str, **more: Any) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, **more}


def weighted(*values: int, **more: Any) -> dict[str, Any]:
    clusters = [{"name": "c", "weight": value} for value in values]
    return {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters, **more}}}


def weighted_tcp(*values: int) -> dict[str, Any]:
    clusters = [{"name": "c", "weight": value} for value in values]
    return build_listener(tcp_proxy(weighted_clusters={"clusters": clusters}))


def ranges(*prefixes: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"prefix_ranges": [{"address_prefix": ip, "prefix_len": length}]} for ip, length in prefixes]


LISTENERS: dict[str, dict[str, Any]] = {
    "tcp": build_listener(),
    "use_original_dst": build_listener(use_original_dst=True),
    "no address": build_listener(address=None),
    "address port 70000": build_listener(address=socket_address("127.0.0.1", 70000)),
    "address is a name": build_listener(address=socket_address("foo", 1)),
    "listening on a pipe": build_listener(address={"pipe": {"path": "/x"}}),
    "two protocols": build_listener(additional_addresses=[{"address": socket_address("::1", 1, protocol="UDP")}]),
    "no filters": build_listener(filter_chains=[{}]),
    "no chains": build_listener(filter_chains=None),
    "default chain": build_listener(filter_chains=None, default_filter_chain=filter_chain(tcp_proxy(cluster="c"))),
    "same match": chains({}, {}),
    "overlapping match": chains({"source_ports": [1, 2]}, {"source_ports": [2]}),
    "differing match": chains({"source_ports": [1, 2]}, {"source_ports": [3]}, {}),
    "match port 0": chains({"destination_port": 0}),
    "match address_suffix": chains({"address_suffix": "a"}),
    "prefix of 33": chains(*ranges(("10.0.0.0", 33))),
    "prefix of 200": chains(*ranges(("::1", 200))),
    "same prefix": chains(*ranges(("10.0.0.1", 8), ("10.0.0.0", 8))),
    "nested prefix": chains(*ranges(("10.0.0.0", 8), ("10.0.0.0", 16))),
    "prefix of a name": chains(*ranges(("foo", 8))),
    "server name": chains({"server_names": ["*.a.b"]}),
    "server name in capitals": chains({"server_names": ["A.b"]}, {"server_names": ["a.b"]}),
    "partial wildcard": chains({"server_names": ["a*.b"]}),
    "bare wildcard": chains({"server_names": ["*"]}),
    "tcp_proxy without cluster": build_listener(tcp_proxy()),
    "tcp_proxy to nothing": build_listener(tcp_proxy(cluster="")),
    "tcp_proxy without prefix": build_listener(tcp_proxy(cluster="c", stat_prefix="")),
    "tcp weighted": weighted_tcp(1, 2),
    "tcp weighted none": weighted_tcp(),
    "tcp weight 0": weighted_tcp(0),
    "two terminal filters": build_listener(tcp_proxy(cluster="c"), tcp_proxy(cluster="c")),
    "filter without name": build_listener(tcp_proxy(cluster="c") | {"name": ""}),
    "filter without type": build_listener({"name": "envoy.filters.network.tcp_proxy"}),
    "http": build_listener(http_manager()),
    "http without stat_prefix": build_listener(http_manager(stat_prefix="")),
    "http without filters": build_listener(http_manager(http_filters=[])),
    "two routers": build_listener(http_manager(http_filters=[ROUTER, ROUTER])),
    "router disabled": build_listener(http_manager(http_filters=[ROUTER | {"disabled": True}])),
    "no router": build_listener(http_manager(http_filters=[FAULT])),
    "fault": build_listener(http_manager(http_filters=[FAULT, ROUTER])),
    "a domain twice": hosts(host("a", "x"), host("b", "X")),
    "wildcard domain twice": hosts(host("a", "*.x"), host("b", "*.x")),
    "catch-all twice": hosts(host("a", "*"), host("b", "*")),
    "virtual host name twice": hosts(host("a", "x"), host("a", "y")),
    "virtual host without name": hosts(host("", "x")),
    "virtual host without domain": hosts(host("a")),
    "empty domain": hosts(host("a", "")),
    "star inside a domain": hosts(host("a", "a*b")),
    "route without match": routes({"route": {"cluster": "c"}}),
    "route with empty match": routes({"match": {}, "route": {"cluster": "c"}}),
    "route without action": routes({"match": {"prefix": "/"}}),
    "route without cluster": routes({"match": {"prefix": "/"}, "route": {}}),
    "route to nothing": routes(route_to("")),
    "empty prefix": routes({"match": {"prefix": ""}, "route": {"cluster": "c"}}),
    "weighted": routes(weighted(1, 2)),
    "weighted 0": routes(weighted(0)),
    "weighted none": routes(weighted()),
    "weighted too much": routes(weighted(MAX, 1)),
    "total_weight": routes(weighted(5, total_weight=100)),
    "udp": udp_listener(UDP_PROXY),
    "udp without filter": udp_listener(),
    "udp with a chain": udp_listener(UDP_PROXY, filter_chains=[{}]),
    "tcp weights": weighted_tcp(MAX, 1),
    "no listener name": build_listener(name=""),
    "unknown listener filter": build_listener(listener_filters=[UDP_PROXY]),
    "weighted without weight": routes(
        {
            "match": {"prefix": "/"},
            "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1}, {"name": "c"}]}},
        }
    ),
    "weighted without name": routes(
        {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"weight": 1}]}}}
    ),
    "path_separated_prefix": routes(route_to() | {"match": {"path_separated_prefix": "/a"}}),
    "path_separated_prefix with a slash": routes(route_to() | {"match": {"path_separated_prefix": "/a/"}}),
    "path_separated_prefix with a query": routes(route_to() | {"match": {"path_separated_prefix": "/a?b"}}),
    "regex ignoring case": routes(
        matching_header({"string_match": {"safe_regex": {"regex": "a"}, "ignore_case": True}})
    ),
    "empty prefix_match": routes(matching_header({"prefix_match": ""})),
    "empty exact_match": routes(matching_header({"exact_match": ""})),
    "range backwards": routes(matching_header({"range_match": {"start": 5, "end": 1}})),
    "header without name": routes(route_to() | {"match": {"prefix": "/", "headers": [{}]}}),
    "long body": routes(replying("x" * 4096)),
    "too long body": routes(replying("x" * 4097)),
    "too long status": routes({"match": {"prefix": "/"}, "direct_response": {"status": 600}}),
    "both ways to strip ports": build_listener(http_manager(strip_any_host_port=True, strip_matching_host_port=True)),
    "no path in match": routes(route_to() | {"match": {"headers": [{"name": "a"}]}}),
    "regex": routes(matching_path("/a+")),
    "bad regex": routes(matching_path("(")),
    "bad regex after a Unicode class": routes(matching_path(r"\pL(")),
    "Unicode class": routes(matching_path(r"/\p{Greek}+")),
    "unknown Unicode class": routes(matching_path(r"/\p{Klingon}+")),
    "long regex": routes(matching_path("/" + "a" * 100)),
    "header added": routes(route_to() | {"request_headers_to_add": [adding("x", "%%")]}),
    "path added": routes(route_to() | {"request_headers_to_add": [adding(":path", "/")]}),
    "Host added": routes(route_to() | {"request_headers_to_add": [adding("Host", "h")]}),
    "status added": routes(route_to() | {"response_headers_to_add": [adding(":status", "200")]}),
    "host added to an answer": routes(route_to() | {"response_headers_to_add": [adding("host", "h")]}),
    "header without value": routes(route_to() | {"request_headers_to_add": [adding("x", "")]}),
    "both ways to append": routes(
        route_to() | {"request_headers_to_add": [adding("x", "1", append=True, append_action="ADD_IF_ABSENT")]}
    ),
    "the old way to append": routes(route_to() | {"request_headers_to_add": [adding("x", "1", append=False)]}),
    "path removed": routes(route_to() | {"request_headers_to_remove": [":path"]}),
    "host removed": routes(route_to() | {"request_headers_to_remove": ["Host"]}),
    "host removed from an answer": routes(route_to() | {"response_headers_to_remove": ["host"]}),
    "length removed": routes(route_to() | {"request_headers_to_remove": ["content-length"]}),
    "prefix and regex rewrite": routes(route_to(prefix_rewrite="/a", regex_rewrite=REWRITE)),
    "rewrite of two groups": routes(route_to(regex_rewrite=REWRITE | {"substitution": r"\1\2"})),
    "rewrite of what is no group": routes(route_to(regex_rewrite=REWRITE | {"substitution": r"\3"})),
    "rewrite with another escape": routes(route_to(regex_rewrite=REWRITE | {"substitution": r"\a"})),
    "redirect of what is no group": routes(
        {"match": {"prefix": "/"}, "redirect": {"regex_rewrite": REWRITE | {"substitution": r"\3"}}}
    ),
    "append_x_forwarded_host alone": routes(route_to(append_x_forwarded_host=True)),
    "tls everywhere": hosts(host("a", "*") | {"require_tls": "ALL"}),
}

STRICTER = {
    "port 0": "no connection to port 0 can succeed",
    "endpoint weights": "the API says that they must not exceed 2**32-1; Envoy does not look",
    "locality weights": "the same",
    "tcp weights": "the same rule as for routes",
    "no listener name": "a resource without a name cannot be subscribed to, nor deleted",
}
LENIENT = {
    "unknown listener filter": "Envoys of others have filters of their own: refused, not invalid",
    "unknown Unicode class": "which names there are depends on the version of RE2; such a regex is not matched here",
    "long regex": "over a bound of Envoy's runtime, re2.max_program_size.error_level: whoever sets it sets it there",
}


def test_agrees_with_envoy(tmp_path: Path) -> None:
    names = [*CLUSTERS, *LISTENERS]
    cases = [("CDS", body) for body in CLUSTERS.values()] + [("LDS", body) for body in LISTENERS.values()]
    want = are_accepted_by_envoy(cases, tmp_path)
    got = list(map(is_accepted_here, cases))
    stricter = {name for name, here, there in zip(names, got, want, strict=True) if there and not here}
    lenient = {name for name, here, there in zip(names, got, want, strict=True) if here and not there}
    assert (stricter, lenient) == (set(STRICTER), set(LENIENT))


@pytest.mark.parametrize("name", [*STRICTER, *LENIENT])
def test_differences_are_of_a_case(name: str) -> None:
    assert name in CLUSTERS or name in LISTENERS
