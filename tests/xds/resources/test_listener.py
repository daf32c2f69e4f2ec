"""Listener: addresses, filter chains and what their filters amount to; what is limited and what Envoy rejects."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.limitation import Effect
from kmesh.model.listener import (
    Detection,
    Direction,
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    Listener,
    NetworkFilter,
    SourceType,
    TcpProxy,
    UdpProxy,
    UnsupportedNetworkFilter,
    WeightedCluster,
)
from kmesh.model.route import ClusterAction
from kmesh.xds.resources.listener import TYPE
from tests.support.resources import (
    encode,
    filter_chain,
    http_manager,
    listener,
    route_to,
    socket_address,
    tcp_proxy,
    typed,
    udp_listener,
)

ADS = {"ads": {}, "resource_api_version": "V3"}
UDP = "envoy.extensions.filters.udp.udp_proxy.v3."
LISTENER_FILTERS = "envoy.extensions.filters.listener."
RAW = typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "raw")
TLS = typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "tls")
V4 = bytes(10) + b"\xff\xff"


def named(type_name: str) -> dict[str, Any]:
    """An extension that no message type is known for."""
    return typed("udpa.type.v1.TypedStruct", type_url=f"type.googleapis.com/{type_name}")


def decode(body: dict[str, Any]) -> Listener:
    got = TYPE.decode(encode("LDS", body))[1]
    assert isinstance(got, Listener)
    return got


def network(*filters: dict[str, Any]) -> NetworkFilter:
    return decode(listener(*filters)).filter_chains[0].network


def shown(limited: Listener | FilterChain | NetworkFilter) -> list[tuple[str, Effect]]:
    return [(limit.feature, limit.effect) for limit in limited.limitations]


def test_tcp_proxy_listener() -> None:
    got = decode(listener())
    assert got == Listener(
        name="l",
        addresses=(SocketAddress.parse("127.0.0.1", 9000),),
        filter_chains=(FilterChain(network=TcpProxy(clusters=(WeightedCluster("c", 1),))),),
    )


def test_additional_addresses() -> None:
    got = decode(listener(additional_addresses=[{"address": socket_address("::1", 9001)}]))
    assert list(map(str, got.addresses)) == ["127.0.0.1:9000", "[::1]:9001"]


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({}, True),
        ({"bind_to_port": False}, False),
        ({"deprecated_v1": {"bind_to_port": False}}, False),
        ({"deprecated_v1": {}}, True),
        ({"bind_to_port": True, "deprecated_v1": {"bind_to_port": False}}, True),
    ],
)
def test_bind_to_port(body: dict[str, Any], want: bool) -> None:
    assert decode(listener(**body)).bind_to_port is want


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({"use_original_dst": True}, True),
        ({"use_original_dst": False}, False),
        ({"listener_filters": [typed(LISTENER_FILTERS + "original_dst.v3.OriginalDst")]}, True),
    ],
)
def test_use_original_dst(body: dict[str, Any], want: bool) -> None:
    got = decode(listener(**body))
    assert (got.use_original_dst, got.limitations) == (want, ())


INSPECTOR = typed(LISTENER_FILTERS + "http_inspector.v3.HttpInspector")


@pytest.mark.parametrize(
    ("filters", "more", "want"),
    [
        ([], {}, None),
        ([typed(LISTENER_FILTERS + "tls_inspector.v3.TlsInspector")], {}, None),
        ([INSPECTOR | {"filter_disabled": {"any_match": True}}], {}, None),
        ([INSPECTOR], {}, Detection(timeout_s=15.0, continues=False)),
        ([INSPECTOR], {"listener_filters_timeout": "0.5s"}, Detection(timeout_s=0.5)),
        (
            [INSPECTOR],
            {"listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": True},
            Detection(timeout_s=None, continues=True),
        ),
    ],
)
def test_detection(filters: list[dict[str, Any]], more: dict[str, Any], want: Detection | None) -> None:
    got = decode(listener(listener_filters=filters, **more))
    assert (got.detection, got.limitations) == (want, ())


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param({"traffic_direction": "OUTBOUND"}, [], id="outbound"),
        pytest.param({"traffic_direction": "INBOUND"}, [("inbound listener", Effect.INACTIVE)], id="inbound"),
        pytest.param({"address": {"pipe": {"path": "/x"}}}, [("listening on pipe", Effect.INACTIVE)], id="pipe"),
        pytest.param(
            {"address": socket_address("127.0.0.1", 0)}, [("listening on port 0", Effect.INACTIVE)], id="port 0"
        ),
        pytest.param(
            {"address": None, "internal_listener": {}},
            [("a listener without a socket", Effect.INACTIVE)],
            id="internal",
        ),
        pytest.param(
            {"listener_filters": [typed(LISTENER_FILTERS + "tls_inspector.v3.TlsInspector")]}, [], id="tls_inspector"
        ),
        pytest.param(
            {
                "listener_filters": [
                    typed(LISTENER_FILTERS + "http_inspector.v3.HttpInspector")
                    | {"filter_disabled": {"destination_port_range": {"start": 1, "end": 2}}}
                ]
            },
            [],
            id="http_inspector",
        ),
        pytest.param(
            {"listener_filters": [named(LISTENER_FILTERS + "proxy_protocol.v3.ProxyProtocol")]},
            [(LISTENER_FILTERS + "proxy_protocol.v3.ProxyProtocol", Effect.REFUSED)],
            id="proxy_protocol",
        ),
        pytest.param(
            {"listener_filters": [{"name": "x", "config_discovery": {"config_source": ADS, "type_urls": ["a/b"]}}]},
            [("config_discovery", Effect.REFUSED)],
            id="discovered filter",
        ),
        pytest.param(
            {"per_connection_buffer_limit_bytes": 1, "tcp_backlog_size": 1, "access_log": [{"name": "x"}]},
            [],
            id="a proxy's own",
        ),
        pytest.param(
            {"filter_chain_matcher": {"on_no_match": {"action": named("x.Y")}}},
            [("Listener.filter_chain_matcher", Effect.REFUSED)],
            id="matcher",
        ),
    ],
)
def test_limits(body: dict[str, Any], want: list[tuple[str, Effect]]) -> None:
    assert shown(decode(listener(**body))) == want


def test_unknown_field_is_refused() -> None:
    got = TYPE.decode(encode("LDS", listener()) + b"\xf8\x3f\x01")[1]
    assert isinstance(got, Listener)
    assert shown(got) == [("Listener field 1023", Effect.REFUSED)]


def test_filter_chain_match() -> None:
    match = {
        "destination_port": 443,
        "prefix_ranges": [
            {"address_prefix": "10.1.2.3", "prefix_len": 8},
            {"address_prefix": "2001:db8::1", "prefix_len": 32},
        ],
        "direct_source_prefix_ranges": [{"address_prefix": "10.0.0.1", "prefix_len": 33}],
        "source_prefix_ranges": [{"address_prefix": "::ffff:10.0.0.1", "prefix_len": 104}],
        "source_type": "EXTERNAL",
        "source_ports": [1, 2],
        "server_names": ["A.Test", "*.b.test"],
        "transport_protocol": "tls",
        "application_protocols": ["h2"],
    }
    chain = filter_chain(tcp_proxy(cluster="c"), filter_chain_match=match, name="n")
    got = decode(listener(filter_chains=[chain])).filter_chains[0]
    assert got.name == "n"
    assert got.match == FilterChainMatch(
        destination_port=443,
        prefix_ranges=((V4 + b"\x0a\0\0\0", 104), (bytes.fromhex("20010db8") + bytes(12), 32)),
        direct_source_prefix_ranges=((V4 + b"\x0a\0\0\x01", 128),),
        source_prefix_ranges=((V4 + b"\x0a\0\0\0", 104),),
        source_type=SourceType.EXTERNAL,
        source_ports=(1, 2),
        server_names=("a.test", "*.b.test"),
        transport_protocol="tls",
        application_protocols=("h2",),
    )


def test_default_filter_chain_alone() -> None:
    got = decode(listener(filter_chains=None, default_filter_chain=filter_chain(tcp_proxy(cluster="c"))))
    assert got.filter_chains == ()
    assert got.default_filter_chain is not None
    assert got.default_filter_chain.match.is_any


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param({"transport_socket": RAW}, [], id="plaintext"),
        pytest.param(
            {"transport_socket": TLS},
            [("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", Effect.REFUSED)],
            id="TLS",
        ),
        pytest.param({"use_proxy_proto": True}, [("FilterChain.use_proxy_proto", Effect.REFUSED)], id="PROXY"),
        pytest.param({"use_proxy_proto": False}, [], id="no PROXY"),
    ],
)
def test_limits_of_a_filter_chain(body: dict[str, Any], want: list[tuple[str, Effect]]) -> None:
    got = decode(listener(filter_chains=[filter_chain(tcp_proxy(cluster="c"), **body)]))
    assert shown(got.filter_chains[0]) == want


def test_weighted_clusters() -> None:
    clusters = [{"name": "a", "weight": 80}, {"name": "b", "weight": 20}]
    got = network(tcp_proxy(weighted_clusters={"clusters": clusters}, hash_policy=[{"source_ip": {}}]))
    assert got == TcpProxy(clusters=(WeightedCluster("a", 80), WeightedCluster("b", 20)), has_source_ip_hash=True)


@pytest.mark.parametrize(
    ("config", "want"),
    [
        pytest.param({"access_log": [{"name": "x"}], "access_log_flush_interval": "1s"}, [], id="reports"),
        pytest.param({"idle_timeout": "5s"}, [("TcpProxy.idle_timeout", Effect.UNENFORCED)], id="idle timeout"),
        pytest.param({"idle_timeout": "0s"}, [], id="no idle timeout"),
        pytest.param({"metadata_match": {}}, [("TcpProxy.metadata_match", Effect.REFUSED)], id="subset"),
        pytest.param(
            {"tunneling_config": {"hostname": "x"}}, [("TcpProxy.tunneling_config", Effect.REFUSED)], id="tunnel"
        ),
        pytest.param(
            {"max_connect_attempts": 3}, [("TcpProxy.max_connect_attempts", Effect.UNENFORCED)], id="retries"
        ),
    ],
)
def test_limits_of_tcp_proxy(config: dict[str, Any], want: list[tuple[str, Effect]]) -> None:
    assert shown(network(tcp_proxy(cluster="c", **config))) == want


@pytest.mark.parametrize("name", ["envoy.tcp.metadataexchange.config.MetadataExchange", "stats.PluginConfig"])
def test_inert_filters_before_the_last(name: str) -> None:
    assert network(named(name), tcp_proxy(cluster="c")) == TcpProxy(clusters=(WeightedCluster("c", 1),))


@pytest.mark.parametrize(
    ("filters", "want"),
    [
        pytest.param(
            [named("envoy.extensions.filters.network.rbac.v3.RBAC"), tcp_proxy(cluster="c")],
            ["envoy.extensions.filters.network.rbac.v3.RBAC"],
            id="access control",
        ),
        pytest.param(
            [named("my.Filter"), tcp_proxy(cluster="c", metadata_match={})],
            ["my.Filter", "TcpProxy.metadata_match"],
            id="unknown",
        ),
        pytest.param(
            [named("envoy.extensions.filters.network.redis_proxy.v3.RedisProxy")],
            ["envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"],
            id="another proxy",
        ),
        pytest.param(
            [{"name": "x", "config_discovery": {"config_source": ADS, "type_urls": ["a/b"]}}],
            ["config_discovery"],
            id="discovered",
        ),
    ],
)
def test_unsupported_filters(filters: list[dict[str, Any]], want: list[str]) -> None:
    got = network(*filters)
    assert isinstance(got, UnsupportedNetworkFilter)
    assert shown(got) == [(feature, Effect.REFUSED) for feature in want]


def test_chain_without_filters_refuses() -> None:
    got = decode(listener(filter_chains=[{}])).filter_chains[0].network
    assert shown(got) == [("a filter chain without filters", Effect.REFUSED)]


def test_http_with_rds() -> None:
    got = network(http_manager(rds={"route_config_name": "8080", "config_source": ADS}))
    assert got == HttpConnectionManager(rds_name="8080")


def test_http_with_inline_routes() -> None:
    got = network(http_manager([route_to("c")]))
    assert isinstance(got, HttpConnectionManager)
    assert got.route_config is not None
    assert got.route_config.virtual_hosts[0].routes[0].action == ClusterAction(cluster="c")
    assert got.limitations == ()


FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
ROUTER = typed("envoy.extensions.filters.http.router.v3.Router", "router")


@pytest.mark.parametrize(
    ("config", "want"),
    [
        pytest.param({"codec_type": "HTTP1"}, [], id="HTTP1"),
        pytest.param({"codec_type": "HTTP2"}, [("codec_type HTTP2", Effect.REFUSED)], id="HTTP2"),
        pytest.param({"use_remote_address": True, "server_name": "x", "tracing": {}}, [], id="a hop's own"),
        pytest.param(
            {"normalize_path": True}, [("HttpConnectionManager.normalize_path", Effect.UNENFORCED)], id="path"
        ),
        pytest.param(
            {"strip_any_host_port": True}, [("HttpConnectionManager.strip_any_host_port", Effect.REFUSED)], id="host"
        ),
        pytest.param({"upgrade_configs": [{"upgrade_type": "websocket"}]}, [], id="websocket"),
        pytest.param(
            {"http_protocol_options": {"accept_http_10": True, "enable_trailers": True, "allow_absolute_url": True}},
            [],
            id="HTTP/1.0",
        ),
        pytest.param(
            {
                "http_protocol_options": {
                    "allow_absolute_url": False,
                    "allow_chunked_length": True,
                    "allow_custom_methods": True,
                    "ignore_http_11_upgrade": [{"exact": "TLS/1.0"}],
                }
            },
            [
                ("Http1ProtocolOptions.allow_chunked_length", Effect.UNENFORCED),
                ("Http1ProtocolOptions.allow_custom_methods", Effect.UNENFORCED),
                ("Http1ProtocolOptions.ignore_http_11_upgrade", Effect.UNENFORCED),
                ("Http1ProtocolOptions.allow_absolute_url of false", Effect.UNENFORCED),
            ],
            id="of the codec",
        ),
        pytest.param(
            {"upgrade_configs": [{"upgrade_type": "websocket", "filters": [named("my.Filter")]}]},
            [("my.Filter", Effect.REFUSED)],
            id="filters of an upgrade",
        ),
        pytest.param({"http_filters": [typed(FAULT), ROUTER]}, [], id="no fault"),
        pytest.param(
            {"http_filters": [typed(FAULT, max_active_faults=1), ROUTER]}, [(FAULT, Effect.REFUSED)], id="fault"
        ),
        pytest.param({"http_filters": [named("my.Filter") | {"disabled": True}, ROUTER]}, [], id="disabled filter"),
        pytest.param(
            {"http_filters": [named("my.Filter"), ROUTER]}, [("my.Filter", Effect.REFUSED)], id="unknown filter"
        ),
        pytest.param(
            {"http_filters": []}, [("no HTTP filters, not even the router", Effect.REFUSED)], id="no router at all"
        ),
        pytest.param(
            {
                "http_filters": [
                    typed(
                        "envoy.extensions.filters.http.router.v3.Router", upstream_http_filters=[named("my.Filter")]
                    )
                ]
            },
            [("my.Filter", Effect.REFUSED)],
            id="upstream filter of the router",
        ),
    ],
)
def test_limits_of_http(config: dict[str, Any], want: list[tuple[str, Effect]]) -> None:
    assert shown(network(http_manager(**config))) == want


def test_udp_proxy() -> None:
    got = decode(udp_listener(typed(UDP + "UdpProxyConfig", stat_prefix="x", cluster="c")))
    assert got.protocol is Protocol.UDP
    assert got.filter_chains == (FilterChain(network=UdpProxy(cluster="c")),)
    assert got.limitations == ()


def _matcher(**on_no_match: Any) -> dict[str, Any]:
    return typed(UDP + "UdpProxyConfig", stat_prefix="x", matcher={"on_no_match": on_no_match})


def test_udp_proxy_with_one_route() -> None:
    got = decode(udp_listener(_matcher(action=typed(UDP + "Route", cluster="c"))))
    assert got.filter_chains[0].network == UdpProxy(cluster="c")


@pytest.mark.parametrize(
    ("filters", "want"),
    [
        pytest.param(
            [_matcher(matcher={"on_no_match": {"action": typed(UDP + "Route", cluster="c")}})],
            "UdpProxyConfig.matcher",
            id="a matcher that chooses",
        ),
        pytest.param([], "a UDP listener that is not one udp_proxy", id="no filter"),
        pytest.param([named("my.Filter")], "my.Filter", id="another filter"),
    ],
)
def test_unsupported_udp(filters: list[dict[str, Any]], want: str) -> None:
    got = decode(udp_listener(*filters)).filter_chains[0].network
    assert isinstance(got, UnsupportedNetworkFilter)
    assert shown(got) == [(want, Effect.REFUSED)]


def test_udp_per_packet_balancing_is_approximated() -> None:
    config = {"stat_prefix": "x", "cluster": "c", "use_per_packet_load_balancing": True}
    got = decode(udp_listener(typed(UDP + "UdpProxyConfig", **config))).filter_chains[0].network
    assert shown(got) == [("UdpProxyConfig.use_per_packet_load_balancing", Effect.APPROXIMATED)]


def _chains(*matches: dict[str, Any]) -> dict[str, Any]:
    chains = [filter_chain(tcp_proxy(cluster="c"), filter_chain_match=match) for match in matches]
    return listener(filter_chains=chains)


CHAIN = "filter_chains[0]"
FILTER = CHAIN + ".filters[0]"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(listener(name=""), "name", id="no name"),
        pytest.param(listener(address=None), "address", id="no address"),
        pytest.param(listener(address=socket_address("foo", 1)), "address.socket_address.address", id="bad address"),
        pytest.param(
            listener(address=socket_address("127.0.0.1", 70000)), "address.socket_address.port_value", id="bad port"
        ),
        pytest.param(
            listener(additional_addresses=[{"address": socket_address("127.0.0.1", 1, protocol="UDP")}]),
            "additional_addresses",
            id="two protocols",
        ),
        pytest.param(listener(traffic_direction=7), "traffic_direction", id="direction"),
        pytest.param(listener(filter_chains=None), "filter_chains", id="no chain"),
        pytest.param(_chains({}, {}), "filter_chains[1]", id="same match"),
        pytest.param(
            _chains({"source_ports": [1, 2]}, {"source_ports": [2, 3]}), "filter_chains[1]", id="overlapping match"
        ),
        pytest.param(_chains({"address_suffix": "1"}), CHAIN + ".filter_chain_match.address_suffix", id="suffix"),
        pytest.param(_chains({"server_names": ["a*"]}), CHAIN + ".filter_chain_match.server_names[0]", id="wildcard"),
        pytest.param(_chains({"source_type": 9}), CHAIN + ".filter_chain_match.source_type", id="source type"),
        pytest.param(
            _chains({"prefix_ranges": [{"address_prefix": "x"}]}),
            CHAIN + ".filter_chain_match.prefix_ranges[0].address_prefix",
            id="prefix",
        ),
        pytest.param(listener({"name": "x"}), FILTER + ".typed_config", id="untyped filter"),
        pytest.param(listener(named("my.Filter")), FILTER, id="unknown last filter"),
        pytest.param(listener(tcp_proxy(cluster="c"), tcp_proxy(cluster="c")), FILTER, id="terminal filter first"),
        pytest.param(listener(tcp_proxy()), FILTER + ".typed_config", id="tcp_proxy without cluster"),
        pytest.param(
            listener(tcp_proxy(weighted_clusters={"clusters": []})),
            FILTER + ".typed_config.weighted_clusters.clusters",
            id="no weighted cluster",
        ),
        pytest.param(
            listener(
                tcp_proxy(
                    weighted_clusters={"clusters": [{"name": "a", "weight": 2**32 - 1}, {"name": "b", "weight": 1}]}
                )
            ),
            FILTER + ".typed_config.weighted_clusters",
            id="weights overflow",
        ),
        pytest.param(
            listener(named("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")),
            FILTER + ".typed_config",
            id="TypedStruct of a known message",
        ),
        pytest.param(
            listener(http_manager(rds={"config_source": ADS})),
            FILTER + ".typed_config.rds.route_config_name",
            id="RDS without name",
        ),
        pytest.param(
            listener(http_manager(http_filters=[ROUTER, ROUTER])),
            FILTER + ".typed_config.http_filters[0]",
            id="router first",
        ),
        pytest.param(
            listener(http_manager(http_filters=[typed(FAULT)])),
            FILTER + ".typed_config.http_filters[0]",
            id="router missing",
        ),
        pytest.param(udp_listener(filter_chains=[{}]), "filter_chains", id="UDP with chains"),
        pytest.param(
            udp_listener(_matcher(action=named("my.Action"))),
            "listener_filters[0].typed_config.matcher.on_no_match.action.typed_config",
            id="UDP action",
        ),
    ],
)
def test_rejects(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode(body)
    assert caught.value.path == path


def test_http_without_route_specifier_is_rejected() -> None:
    body = listener(typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"))
    body["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = "x"
    with pytest.raises(ResourceInvalid) as caught:
        decode(body)
    assert caught.value.reason == "one of route_specifier is required"


def test_matches_that_differ_in_one_dimension_are_fine() -> None:
    got = decode(_chains({}, {"destination_port": 80}, {"destination_port": 80, "source_ports": [1]}))
    assert len(got.filter_chains) == 3


def test_direction() -> None:
    assert decode(listener(traffic_direction="OUTBOUND")).direction is Direction.OUTBOUND
