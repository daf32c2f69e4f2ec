"""xDS resources from the JSON form that Envoy's files use, and the pieces that tests put them together from."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as _dns_cluster  # noqa: F401
from envoy.extensions.filters.http.cors.v3 import cors_pb2 as _cors  # noqa: F401
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as _fault  # noqa: F401
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as _grpc_stats  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2 as _router  # noqa: F401
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2 as _http_inspector  # noqa: F401
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2 as _original_dst  # noqa: F401
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2 as _tls_inspector  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2 as _hcm,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as _tcp_proxy  # noqa: F401
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2 as _udp_route  # noqa: F401
from envoy.extensions.filters.udp.udp_proxy.v3 import udp_proxy_pb2 as _udp_proxy  # noqa: F401
from envoy.extensions.load_balancing_policies.cluster_provided.v3 import cluster_provided_pb2 as _cp  # noqa: F401
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2 as _lr  # noqa: F401
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2 as _maglev  # noqa: F401
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2 as _random  # noqa: F401
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2 as _ring_hash  # noqa: F401
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2 as _rr  # noqa: F401
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2 as _wrr  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as _previous_hosts  # noqa: F401
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as _raw_buffer  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as _tls  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as _http_options  # noqa: F401
from google.protobuf import json_format
from google.protobuf.message import Message
from udpa.type.v1 import typed_struct_pb2 as _typed_struct  # noqa: F401

__all__ = [
    "MESSAGES",
    "encode",
    "endpoint",
    "filter_chain",
    "http_manager",
    "listener",
    "route_to",
    "static_cluster",
    "tcp_proxy",
    "typed",
    "udp_listener",
]

_URL = "type.googleapis.com/"
MESSAGES: dict[str, type[Message]] = {
    "LDS": listener_pb2.Listener,
    "RDS": route_pb2.RouteConfiguration,
    "CDS": cluster_pb2.Cluster,
    "EDS": endpoint_pb2.ClusterLoadAssignment,
}


def encode(kind: str, resource: dict[str, Any]) -> bytes:
    """`kind` is "LDS", "RDS", "CDS" or "EDS"."""
    return json_format.ParseDict(resource, MESSAGES[kind]()).SerializeToString()


def typed(type_name: str, name: str = "x", **config: Any) -> dict[str, Any]:
    """An extension: {name, typed_config}."""
    return {"name": name, "typed_config": {"@type": _URL + type_name, **config}}


def socket_address(ip: str, port: int, **more: Any) -> dict[str, Any]:
    return {"socket_address": {"address": ip, "port_value": port, **more}}


def endpoint(ip: str = "127.0.0.1", port: int = 80, **more: Any) -> dict[str, Any]:
    return {"endpoint": {"address": socket_address(ip, port)}, **more}


def static_cluster(*endpoints: dict[str, Any], name: str = "c", **more: Any) -> dict[str, Any]:
    groups = [{"lb_endpoints": list(endpoints or [endpoint()])}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": groups}, **more}


def tcp_proxy(**config: Any) -> dict[str, Any]:
    return typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "tcp", **{"stat_prefix": "t", **config})


def route_to(cluster: str = "c", **action: Any) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s", **action}}


def http_manager(routes: list[dict[str, Any]] | None = None, **config: Any) -> dict[str, Any]:
    """With an inline route configuration of one virtual host, unless `config` has another specifier."""
    if not {"rds", "route_config", "scoped_routes"} & config.keys():
        hosts = [{"name": "v", "domains": ["*"], "routes": [route_to()] if routes is None else routes}]
        config["route_config"] = {"name": "inline", "virtual_hosts": hosts}
    config.setdefault("http_filters", [typed("envoy.extensions.filters.http.router.v3.Router", "router")])
    config.setdefault("stat_prefix", "h")
    name = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return typed(name, "http", **config)


def filter_chain(*filters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"filters": list(filters), **more}


def listener(*filters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """On 127.0.0.1:9000 with one chain, unless `more` says otherwise; None removes a field."""
    out = {
        "name": "l",
        "address": socket_address("127.0.0.1", 9000),
        "filter_chains": [filter_chain(*(filters or (tcp_proxy(cluster="c"),)))],
        **more,
    }
    return {name: value for name, value in out.items() if value is not None}


def udp_listener(*filters: dict[str, Any], **more: Any) -> dict[str, Any]:
    address = socket_address("127.0.0.1", 9000, protocol="UDP")
    return {"name": "u", "address": address, "listener_filters": list(filters), **more}
