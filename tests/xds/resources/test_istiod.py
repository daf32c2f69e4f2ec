"""Resources as istiod makes them for a sidecar: whole, and with what they may amount to here."""

from __future__ import annotations

from typing import Any

from kmesh.model.cluster import Cluster, Discovery, LbPolicy
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import Direction, HttpConnectionManager, Listener, TcpProxy, WeightedCluster
from kmesh.model.route import ClusterAction, DirectResponse, RouteConfiguration
from kmesh.xds.resources import cluster, listener, route
from tests.support.resources import encode, filter_chain, http_manager, socket_address, tcp_proxy, typed

ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
LISTENER_FILTERS = "envoy.extensions.filters.listener."
HTTP_FILTERS = "envoy.extensions.filters.http."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def struct(type_name: str, name: str, **value: Any) -> dict[str, Any]:
    """Istio's own extensions come as TypedStructs."""
    return typed("udpa.type.v1.TypedStruct", name, type_url=f"type.googleapis.com/{type_name}", value=value)


def istio_http(**specifier: Any) -> dict[str, Any]:
    """The HTTP connection manager of an outbound listener."""
    return http_manager(
        stat_prefix="outbound_0.0.0.0_8080",
        http_filters=[
            struct("io.istio.http.peer_metadata.Config", "istio.metadata_exchange"),
            typed(
                HTTP_FILTERS + "grpc_stats.v3.FilterConfig", "envoy.filters.http.grpc_stats", emit_filter_state=True
            ),
            struct("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "istio.alpn"),
            typed(HTTP_FILTERS + "fault.v3.HTTPFault", "envoy.filters.http.fault"),
            typed(HTTP_FILTERS + "cors.v3.Cors", "envoy.filters.http.cors"),
            struct("stats.PluginConfig", "istio.stats", disable_host_header_fallback=True),
            typed(HTTP_FILTERS + "router.v3.Router", "envoy.filters.http.router"),
        ],
        tracing={"client_sampling": {"value": 100}},
        access_log=[{"name": "envoy.access_loggers.file"}],
        use_remote_address=False,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        stream_idle_timeout="0s",
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        request_id_extension={"typed_config": struct("x.Y", "y")["typed_config"]},
        **specifier,
    )


def passthrough_chain(to: str = "PassthroughCluster", name: str = "PassthroughFilterChain") -> dict[str, Any]:
    stats = struct("stats.PluginConfig", "istio.stats")
    proxy = tcp_proxy(stat_prefix=to, cluster=to, access_log=[{"name": "envoy.access_loggers.file"}])
    return filter_chain(stats, proxy, name=name)


def decode_listener(body: dict[str, Any]) -> Listener:
    got = listener.TYPE.decode(encode("LDS", body))[1]
    assert isinstance(got, Listener)
    return got


def decode_cluster(body: dict[str, Any]) -> Cluster:
    got = cluster.TYPE.decode(encode("CDS", body))[1]
    assert isinstance(got, Cluster)
    return got


def refused(limitations: tuple[Limitation, ...]) -> list[str]:
    return [limit.feature for limit in limitations if limit.effect is Effect.REFUSED]


def test_http_listener_of_a_port() -> None:
    got = decode_listener(
        {
            "name": "0.0.0.0_8080",
            "address": socket_address("0.0.0.0", 8080),
            "filter_chains": [
                filter_chain(
                    istio_http(rds={"config_source": ADS, "route_config_name": "8080"}),
                    filter_chain_match={
                        "transport_protocol": "raw_buffer",
                        "application_protocols": ["http/1.1", "h2c"],
                    },
                )
            ],
            "default_filter_chain": passthrough_chain(),
            "listener_filters": [
                typed(LISTENER_FILTERS + "tls_inspector.v3.TlsInspector"),
                typed(LISTENER_FILTERS + "http_inspector.v3.HttpInspector"),
            ],
            "listener_filters_timeout": "0s",
            "continue_on_listener_filters_timeout": True,
            "traffic_direction": "OUTBOUND",
            "bind_to_port": False,
        }
    )
    assert (got.bind_to_port, got.direction, got.limitations) == (False, Direction.OUTBOUND, ())
    http = got.filter_chains[0].network
    assert isinstance(http, HttpConnectionManager)
    assert http.rds_name == "8080"
    assert refused(http.limitations) == []
    assert [limit.feature for limit in http.limitations] == ["HttpConnectionManager.normalize_path"]
    assert got.default_filter_chain is not None
    assert got.default_filter_chain.network == TcpProxy(clusters=(WeightedCluster("PassthroughCluster", 1),))


def test_virtual_outbound() -> None:
    got = decode_listener(
        {
            "name": "virtualOutbound",
            "address": socket_address("0.0.0.0", 15001),
            "filter_chains": [
                passthrough_chain("BlackHoleCluster", "virtualOutbound-blackhole")
                | {"filter_chain_match": {"destination_port": 15001}},
                passthrough_chain(name="virtualOutbound-catchall-tcp"),
            ],
            "use_original_dst": True,
            "traffic_direction": "OUTBOUND",
            "access_log": [{"name": "envoy.access_loggers.file"}],
        }
    )
    assert (got.use_original_dst, got.limitations) == (True, ())
    assert [(chain.match.destination_port, chain.network) for chain in got.filter_chains] == [
        (15001, TcpProxy(clusters=(WeightedCluster("BlackHoleCluster", 1),))),
        (None, TcpProxy(clusters=(WeightedCluster("PassthroughCluster", 1),))),
    ]


def test_virtual_inbound_captures_nothing() -> None:
    got = decode_listener(
        {
            "name": "virtualInbound",
            "address": socket_address("0.0.0.0", 15006),
            "filter_chains": [passthrough_chain("InboundPassthroughCluster", "virtualInbound-catchall")],
            "listener_filters": [typed(LISTENER_FILTERS + "original_dst.v3.OriginalDst")],
            "traffic_direction": "INBOUND",
        }
    )
    assert [limit.effect for limit in got.limitations] == [Effect.INACTIVE]


def test_eds_cluster() -> None:
    name = "outbound|8080|v1|reviews.default.svc.cluster.local"
    tls = typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "envoy.transport_sockets.tls")
    raw = typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "envoy.transport_sockets.raw_buffer")
    limit = {"max_connections": 2**32 - 1, "max_requests": 2**32 - 1, "track_remaining": True}
    options = typed(HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": {}})["typed_config"]
    got = decode_cluster(
        {
            "name": name,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": ADS, "service_name": name},
            "connect_timeout": "10s",
            "lb_policy": "LEAST_REQUEST",
            "circuit_breakers": {"thresholds": [limit]},
            "typed_extension_protocol_options": {HTTP_OPTIONS: options},
            "common_lb_config": {"locality_weighted_lb_config": {}},
            "metadata": {"filter_metadata": {"istio": {"services": [{"name": "reviews"}]}}},
            "filters": [struct("envoy.tcp.metadataexchange.config.MetadataExchange", "istio.metadata_exchange")],
            "transport_socket_matches": [
                {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": tls},
                {"name": "tlsMode-disabled", "match": {}, "transport_socket": raw},
            ],
        }
    )
    assert (got.name, got.eds_service_name, got.is_locality_weighted) == (name, name, True)
    assert [transport.is_plaintext for transport in got.transports] == [False, True, True]
    assert [(limit.feature, limit.effect) for limit in got.limitations] == [
        ("Cluster.connect_timeout", Effect.UNENFORCED),
        ("LEAST_REQUEST", Effect.APPROXIMATED),
    ]


def test_passthrough_cluster() -> None:
    options = typed(HTTP_OPTIONS, use_downstream_protocol_config={"http2_protocol_options": {}})["typed_config"]
    got = decode_cluster(
        {
            "name": "PassthroughCluster",
            "type": "ORIGINAL_DST",
            "connect_timeout": "10s",
            "lb_policy": "CLUSTER_PROVIDED",
            "typed_extension_protocol_options": {HTTP_OPTIONS: options},
        }
    )
    assert (got.discovery, got.lb_policy) == (Discovery.ORIGINAL_DST, LbPolicy.CLUSTER_PROVIDED)
    assert refused(got.limitations) == []


def test_route_configuration_of_a_port() -> None:
    name = "outbound|8080||reviews.default.svc.cluster.local"
    to_reviews = {
        "name": "default",
        "match": {"prefix": "/"},
        "route": {
            "cluster": name,
            "timeout": "0s",
            "retry_policy": {"retry_on": "connect-failure,unavailable", "num_retries": 2},
            "max_grpc_timeout": "0s",
        },
        "decorator": {"operation": "reviews.default.svc.cluster.local:8080/*"},
    }
    passthrough = {"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster", "timeout": "0s"}}
    got = route.TYPE.decode(
        encode(
            "RDS",
            {
                "name": "8080",
                "virtual_hosts": [
                    {
                        "name": "reviews.default.svc.cluster.local:8080",
                        "domains": ["reviews.default.svc.cluster.local", "reviews", "10.0.0.1"],
                        "routes": [to_reviews],
                        "include_request_attempt_count": True,
                    },
                    {"name": "allow_any", "domains": ["*"], "routes": [passthrough]},
                    {
                        "name": "block_all",
                        "domains": ["blocked"],
                        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 502}}],
                    },
                ],
                "validate_clusters": False,
                "ignore_port_in_host_matching": True,
                "max_direct_response_body_size_bytes": 1048576,
            },
        )
    )[1]
    assert isinstance(got, RouteConfiguration)
    assert [host.routes[0].action for host in got.virtual_hosts] == [
        ClusterAction(cluster=name),
        ClusterAction(cluster="PassthroughCluster"),
        DirectResponse(status=502),
    ]
    assert [host.limitations for host in got.virtual_hosts] == [(), (), ()]
    assert got.limitations == ()
