"""Services as xDS resources: a listener at a service address, a cluster, its endpoints."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from tests.support.name_server import Address
from tests.support.resources import MESSAGES, filter_chain, http_manager, socket_address, tcp_proxy, typed

__all__ = ["ADS", "assignment", "captured", "eds_cluster", "http_to", "locality", "member", "parse", "static_cluster"]
__all__ += ["tcp_service", "tcp_to", "udp_service"]

ADS = {"ads": {}, "resource_api_version": "V3"}


def parse(kind: str, resource: dict[str, Any]) -> Message:
    """`kind` as in tests.support.resources."""
    return json_format.ParseDict(resource, MESSAGES[kind]())


def captured(name: str, address: Address, *filters: dict[str, Any], **more: Any) -> Message:
    """A listener that nothing binds, with one chain unless `more` says otherwise."""
    listener = {
        "name": name,
        "address": socket_address(*address),
        "bind_to_port": False,
        "filter_chains": [filter_chain(*filters)] if filters else [],
    }
    return parse("LDS", listener | more)


def tcp_to(cluster: str = "", **weights: int) -> dict[str, Any]:
    """A TCP proxy to one cluster, or to several by weight."""
    if cluster:
        return tcp_proxy(cluster=cluster)
    return tcp_proxy(weighted_clusters={"clusters": [{"name": n, "weight": w} for n, w in weights.items()]})


def http_to(cluster: str = "", **config: Any) -> dict[str, Any]:
    """An HTTP connection manager whose every request goes to one cluster, or as `config` says."""
    if cluster:
        return http_manager([{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}], **config)
    return http_manager(**config)


def member(address: Address, **more: Any) -> dict[str, Any]:
    """One lb_endpoint."""
    return {"endpoint": {"address": socket_address(*address)}, **more}


def locality(*members: dict[str, Any], zone: str = "", **more: Any) -> dict[str, Any]:
    return {"locality": {"zone": zone}, "lb_endpoints": list(members), **more}


def eds_cluster(name: str, **more: Any) -> Message:
    cluster = {
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": ADS},
        # Envoy's default of 50 % sends connections to unhealthy endpoints.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }
    return parse("CDS", cluster | more)


def assignment(name: str, *localities: dict[str, Any], **more: Any) -> Message:
    return parse("EDS", {"cluster_name": name, "endpoints": list(localities), **more})


def static_cluster(name: str, *addresses: Address, **more: Any) -> Message:
    endpoints = [{"lb_endpoints": [member(address) for address in addresses]}]
    load_assignment = {"cluster_name": name, "endpoints": endpoints if addresses else []}
    cluster = {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": load_assignment}
    return parse("CDS", cluster | more)


def tcp_service(name: str, address: Address, *endpoints: Address, **cluster: Any) -> list[Message]:
    """Listener, EDS cluster and assignment, all of that name."""
    return [
        captured(name, address, tcp_to(name)),
        eds_cluster(name, **cluster),
        assignment(name, locality(*map(member, endpoints))),
    ]


def udp_service(name: str, address: Address, *endpoints: Address) -> list[Message]:
    """As tcp_service(), for datagrams."""
    action = typed("envoy.extensions.filters.udp.udp_proxy.v3.Route", "route", cluster=name)
    proxy = typed(
        "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
        "envoy.filters.udp_listener.udp_proxy",
        stat_prefix=name,
        matcher={"on_no_match": {"action": action}},
    )
    listener = parse(
        "LDS",
        {"name": name, "address": socket_address(*address, protocol="UDP"), "listener_filters": [proxy]},
    )
    return [listener, eds_cluster(name), assignment(name, locality(*map(member, endpoints)))]
