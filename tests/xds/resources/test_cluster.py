"""Cluster: discovery, balancing, transports, protocols; what is limited, and what Envoy would not take."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, DnsFamily, DnsOptions, LbPolicy, TransportMatch, UpstreamHttp
from kmesh.model.limitation import Effect
from kmesh.xds.resources.cluster import TYPE
from tests.support.resources import encode, endpoint, socket_address, static_cluster, typed

ADS = {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
POLICIES = "envoy.extensions.load_balancing_policies."
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
RAW = {"transport_socket": typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "raw")}
TLS = {"transport_socket": typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "tls")}


def decode(body: dict[str, Any]) -> Cluster:
    got = TYPE.decode(encode("CDS", body))[1]
    assert isinstance(got, Cluster)
    return got


def limits(body: dict[str, Any]) -> list[tuple[str, Effect]]:
    return [(limit.feature, limit.effect) for limit in decode(body).limitations]


def policies(*names: str, **config: Any) -> dict[str, Any]:
    entries = [{"typed_extension_config": typed(POLICIES + name, **config)} for name in names]
    return {"load_balancing_policy": {"policies": entries}}


def dns_cluster(kind: str, *endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return static_cluster(*(endpoints or [endpoint("a.test", 80)]), **more) | {"type": kind}


def test_static() -> None:
    got = decode(static_cluster(endpoint("10.0.0.1", 80, load_balancing_weight=3)))
    assert (got.name, got.discovery, got.eds_service_name, got.limitations) == ("c", Discovery.STATIC, "", ())
    assert got.assignment is not None
    (group,) = got.assignment.localities
    assert [(e.address, e.weight) for e in group.endpoints] == [(SocketAddress.parse("10.0.0.1", 80), 3)]


def test_static_without_endpoints() -> None:
    """Istiod's BlackHoleCluster."""
    got = decode({"name": "BlackHoleCluster", "type": "STATIC"})
    assert got.assignment is not None
    assert got.assignment.localities == ()


def test_static_keeps_equal_addresses() -> None:
    got = decode(static_cluster(endpoint(), endpoint()))
    assert got.assignment is not None
    assert len(got.assignment.localities[0].endpoints) == 2


@pytest.mark.parametrize(("service", "want"), [("", "c"), ("other", "other")])
def test_eds(service: str, want: str) -> None:
    got = decode({"name": "c", "type": "EDS", "eds_cluster_config": ADS | {"service_name": service}})
    assert (got.discovery, got.eds_service_name, got.assignment) == (Discovery.EDS, want, None)


def test_eds_from_a_file_is_refused() -> None:
    config = {"eds_config": {"path_config_source": {"path": "/x"}}}
    got = limits({"name": "c", "type": "EDS", "eds_cluster_config": config})
    assert got == [("ConfigSource.path_config_source", Effect.REFUSED)]


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_dns(kind: str) -> None:
    options = {"dns_refresh_rate": "2.5s", "respect_dns_ttl": True, "dns_lookup_family": "V4_PREFERRED"}
    got = decode(dns_cluster(kind, **options))
    assert got.discovery is Discovery[kind]
    assert got.dns == DnsOptions(refresh_rate_s=2.5, respect_ttl=True, family=DnsFamily.V4_PREFERRED)
    assert got.assignment is not None
    assert got.assignment.localities[0].endpoints[0].address == HostAddress("a.test", 80)


def test_dns_with_an_ip_address() -> None:
    got = decode(dns_cluster("STRICT_DNS", endpoint("10.0.0.1", 80)))
    assert got.assignment is not None
    assert got.assignment.localities[0].endpoints[0].address == SocketAddress.parse("10.0.0.1", 80)


@pytest.mark.parametrize(("single", "want"), [(False, Discovery.STRICT_DNS), (True, Discovery.LOGICAL_DNS)])
def test_dns_cluster_extension(single: bool, want: Discovery) -> None:
    kind = typed(
        "envoy.extensions.clusters.dns.v3.DnsCluster",
        "envoy.cluster.dns",
        all_addresses_in_single_endpoint=single,
        dns_lookup_family="V6_ONLY",
    )
    body = static_cluster(endpoint("a.test", 80))
    del body["type"]
    got = decode(body | {"cluster_type": kind})
    assert (got.discovery, got.dns.family) == (want, DnsFamily.V6_ONLY)


@pytest.mark.parametrize("name", ["static", "strict_dns"])
def test_cluster_type_by_name(name: str) -> None:
    got = decode({"name": "c", "cluster_type": {"name": f"envoy.cluster.{name}"}})
    assert got.discovery is Discovery[name.upper()]


def test_foreign_cluster_type_is_refused() -> None:
    kind = {"name": "x", "typed_config": _unknown_type("my.Cluster")}
    body = {"name": "c", "cluster_type": kind, "lb_policy": "CLUSTER_PROVIDED"}
    assert limits(body) == [("my.Cluster", Effect.REFUSED)]


def test_original_dst() -> None:
    """Istiod's PassthroughCluster."""
    got = decode({"name": "PassthroughCluster", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"})
    assert (got.discovery, got.lb_policy, got.assignment) == (Discovery.ORIGINAL_DST, LbPolicy.CLUSTER_PROVIDED, None)


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({}, (LbPolicy.ROUND_ROBIN, False)),
        ({"lb_policy": "RANDOM"}, (LbPolicy.RANDOM, False)),
        ({"lb_policy": "MAGLEV", "common_lb_config": {"locality_weighted_lb_config": {}}}, (LbPolicy.MAGLEV, True)),
        (policies("random.v3.Random"), (LbPolicy.RANDOM, False)),
        ({"lb_policy": "RANDOM", **policies("ring_hash.v3.RingHash")}, (LbPolicy.RING_HASH, False)),
        (policies("round_robin.v3.RoundRobin", "random.v3.Random"), (LbPolicy.ROUND_ROBIN, False)),
        (
            policies("random.v3.Random", locality_lb_config={"locality_weighted_lb_config": {}}),
            (LbPolicy.RANDOM, True),
        ),
        (policies("maglev.v3.Maglev", locality_weighted_lb_config={}), (LbPolicy.MAGLEV, True)),
        (
            policies(
                "wrr_locality.v3.WrrLocality",
                endpoint_picking_policy=policies("round_robin.v3.RoundRobin")["load_balancing_policy"],
            ),
            (LbPolicy.ROUND_ROBIN, True),
        ),
    ],
)
def test_lb_policy(body: dict[str, Any], want: tuple[LbPolicy, bool]) -> None:
    got = decode(static_cluster(**body))
    assert (got.lb_policy, got.is_locality_weighted) == want
    assert got.limitations == ()


def test_lb_policy_that_envoy_does_not_know_is_passed_over() -> None:
    other = {"typed_extension_config": {"name": "x", "typed_config": _unknown_type("my.Policy")}}
    body = policies("random.v3.Random")
    body["load_balancing_policy"]["policies"].insert(0, other)
    assert decode(static_cluster(**body)).lb_policy is LbPolicy.RANDOM


def _unknown_type(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": f"type.googleapis.com/{name}"}


def _wrr_in_wrr() -> dict[str, Any]:
    inner = policies("wrr_locality.v3.WrrLocality", endpoint_picking_policy=policies("random.v3.Random")[KEY])
    return policies("wrr_locality.v3.WrrLocality", endpoint_picking_policy=inner[KEY])


KEY = "load_balancing_policy"


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param({"lb_policy": "LEAST_REQUEST"}, [("LEAST_REQUEST", Effect.APPROXIMATED)], id="least request"),
        pytest.param(
            policies("least_request.v3.LeastRequest", choice_count=3),
            [("LEAST_REQUEST", Effect.APPROXIMATED)],
            id="least request extension",
        ),
        pytest.param(
            policies("round_robin.v3.RoundRobin", slow_start_config={"slow_start_window": "5s"}),
            [("RoundRobin.slow_start_config", Effect.APPROXIMATED)],
            id="slow start",
        ),
        pytest.param(_wrr_in_wrr(), [(POLICIES + "wrr_locality.v3.WrrLocality", Effect.REFUSED)], id="nested wrr"),
        pytest.param(
            {"lb_subset_config": {"subset_selectors": [{"keys": ["v"]}]}},
            [("LbSubsetConfig.subset_selectors", Effect.REFUSED)],
            id="subsets",
        ),
        pytest.param({"lb_subset_config": {"fallback_policy": "ANY_ENDPOINT"}}, [], id="no subsets"),
        pytest.param({"connect_timeout": "1s"}, [("Cluster.connect_timeout", Effect.UNENFORCED)], id="timeout"),
        pytest.param(
            {"outlier_detection": {}}, [("Cluster.outlier_detection", Effect.UNENFORCED)], id="outlier detection"
        ),
        pytest.param(
            {"circuit_breakers": {"thresholds": [{"max_connections": 5}]}},
            [("Cluster.circuit_breakers", Effect.UNENFORCED)],
            id="circuit breakers",
        ),
        pytest.param(
            {"circuit_breakers": {"thresholds": [{"max_connections": 2**32 - 1, "track_remaining": True}]}},
            [],
            id="circuit breakers that never trip",
        ),
        pytest.param(
            {"dns_resolvers": [socket_address("10.0.0.1", 53)]},
            [("Cluster.dns_resolvers", Effect.REFUSED)],
            id="resolvers",
        ),
        pytest.param(
            {"upstream_bind_config": {"source_address": socket_address("127.0.0.6", 0)["socket_address"]}},
            [("Cluster.upstream_bind_config", Effect.REFUSED)],
            id="bind",
        ),
        pytest.param(
            {"filters": [typed("udpa.type.v1.TypedStruct", type_url="x/my.Filter")]},
            [("my.Filter", Effect.REFUSED)],
            id="upstream filter",
        ),
        pytest.param(
            {
                "filters": [
                    typed("udpa.type.v1.TypedStruct", type_url="x/envoy.tcp.metadataexchange.config.MetadataExchange")
                ]
            },
            [],
            id="istio's upstream filter",
        ),
        pytest.param(
            {"typed_extension_protocol_options": {HTTP: typed(HTTP, auto_config={})["typed_config"]}},
            [("HttpProtocolOptions.auto_config", Effect.REFUSED)],
            id="auto http",
        ),
        pytest.param(
            {"alt_stat_name": "x", "metadata": {"filter_metadata": {"istio": {"a": 1}}}, "respect_dns_ttl": True},
            [],
            id="reports only",
        ),
    ],
)
def test_limits(body: dict[str, Any], want: list[tuple[str, Effect]]) -> None:
    assert limits(static_cluster(**body)) == want


def test_limitations_of_inline_endpoints_are_the_clusters() -> None:
    got = decode(static_cluster({"endpoint": {"address": {"pipe": {"path": "/x"}}}}))
    assert got.assignment is not None
    assert got.assignment.limitations == ()
    (limit,) = got.limitations
    assert limit.path == "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address"


def _options(**config: Any) -> dict[str, Any]:
    return {"typed_extension_protocol_options": {HTTP: typed(HTTP, **config)["typed_config"]}}


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({}, UpstreamHttp.HTTP1),
        ({"http2_protocol_options": {"max_concurrent_streams": 9}}, UpstreamHttp.HTTP2),
        ({"protocol_selection": "USE_DOWNSTREAM_PROTOCOL"}, UpstreamHttp.DOWNSTREAM),
        (_options(explicit_http_config={"http_protocol_options": {}}), UpstreamHttp.HTTP1),
        (_options(explicit_http_config={"http2_protocol_options": {}}), UpstreamHttp.HTTP2),
        (_options(use_downstream_protocol_config={"http2_protocol_options": {}}), UpstreamHttp.DOWNSTREAM),
        (
            {"http2_protocol_options": {}, **_options(explicit_http_config={"http_protocol_options": {}})},
            UpstreamHttp.HTTP1,
        ),
    ],
)
def test_upstream_http(body: dict[str, Any], want: UpstreamHttp) -> None:
    got = decode(static_cluster(**body))
    assert (got.upstream_http, got.limitations) == (want, ())


def test_transports() -> None:
    """Istiod's auto mTLS."""
    got = decode(
        static_cluster(
            transport_socket_matches=[
                {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, **TLS},
                {"name": "tlsMode-disabled", "match": {}, **RAW},
            ]
        )
    )
    assert got.transports == (
        TransportMatch(match=(("tlsMode", "istio"),), is_plaintext=False, transport="tls"),
        TransportMatch(match=(), is_plaintext=True, transport="raw"),
        TransportMatch(match=(), is_plaintext=True, transport="raw_buffer"),
    )
    assert got.limitations == ()


def test_plain_transport_socket_is_the_last() -> None:
    got = decode(static_cluster(transport_socket_matches=[{"name": "x", "match": {"a": "b"}, **RAW}], **TLS))
    assert [transport.transport for transport in got.transports] == ["raw", "tls"]


def test_transport_match_on_other_than_strings_is_refused() -> None:
    got = limits(static_cluster(transport_socket_matches=[{"name": "x", "match": {"a": True}, **RAW}]))
    assert got == [("match on other than strings", Effect.REFUSED)]


def test_panic_threshold() -> None:
    assert decode(static_cluster()).panic_threshold_percent == 0
    body = static_cluster(common_lb_config={"healthy_panic_threshold": {"value": 25.5}})
    assert decode(body).panic_threshold_percent == 25.5


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(static_cluster(name="") | {"load_assignment": None}, "name", id="no name"),
        pytest.param({"name": "c", "type": "EDS"}, "eds_cluster_config.eds_config", id="EDS without source"),
        pytest.param({"name": "c", "type": 99}, "type", id="type"),
        pytest.param(static_cluster(lb_policy=4), "lb_policy", id="policy"),
        pytest.param(static_cluster(eds_cluster_config=ADS), "eds_cluster_config", id="EDS for another type"),
        pytest.param(static_cluster(lb_policy="CLUSTER_PROVIDED"), "lb_policy", id="nothing provided"),
        pytest.param({"name": "c", "type": "ORIGINAL_DST"}, "lb_policy", id="ORIGINAL_DST round robin"),
        pytest.param(
            dns_cluster("LOGICAL_DNS", endpoint("a.test"), endpoint("b.test")),
            "load_assignment.endpoints",
            id="LOGICAL_DNS of two",
        ),
        pytest.param(
            static_cluster(load_balancing_policy={"policies": []}),
            "load_balancing_policy.policies",
            id="no known policy",
        ),
        pytest.param(
            static_cluster(lb_policy="LOAD_BALANCING_POLICY_CONFIG"), "load_balancing_policy", id="no policy config"
        ),
        pytest.param(
            static_cluster(endpoint("a.test")),
            "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
            id="STATIC with a host name",
        ),
        pytest.param(
            static_cluster(transport_socket={"name": "raw_buffer"}),
            "transport_socket.typed_config",
            id="untyped socket",
        ),
        pytest.param(
            static_cluster(transport_socket=typed("udpa.type.v1.TypedStruct")),
            "transport_socket.typed_config",
            id="TypedStruct without type",
        ),
    ],
)
def test_rejects(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode({name: value for name, value in body.items() if value is not None})
    assert caught.value.path == path
