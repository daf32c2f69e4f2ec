"""What the control plane says, to bridges and sidecars alike: a service for each lane, as Istiod would describe it.

HTTP and UPLOAD are HTTP ports: a connection manager and a route configuration by the scenario's routing, with Istio's
retries and no limits on connections. ECHO is a TCP port. Istio's own filters (telemetry, peer metadata), access log
and tracing are left out, so a sidecar here does less than one of Istio's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message

from benchmarks.traffic.routing import Routing
from benchmarks.traffic.topology import ECHO, PORTS, Lane
from kmesh.xds.server import Catalog, Resource
from tests.support.resources import filter_chain, socket_address
from tests.support.services import ADS, assignment, captured, eds_cluster, http_to, locality, member, parse, tcp_to

__all__ = ["INBOUND_PORT", "OUTBOUND_PORT", "write_catalog"]

OUTBOUND_PORT, INBOUND_PORT = 15001, 15006
"""Where sidecars listen for what is redirected to them."""

_INBOUND_SOURCE = "127.0.0.6"
"""What Istio's sidecars connect to their own pod from."""
_UNLIMITED = 2**32 - 1
_LIMITS = {
    "max_connections": _UNLIMITED,
    "max_pending_requests": _UNLIMITED,
    "max_requests": _UNLIMITED,
    "max_retries": _UNLIMITED,
}


def write_catalog(lanes: Iterable[tuple[Lane, Routing]]) -> Catalog:
    """All that the embedded ADS server serves, for each lane with the routing of its scenario."""
    resources = [*_catch_all(), *_inbound()]
    for lane, routing in lanes:
        for port in PORTS:
            resources += _outbound(lane, port, routing)
    return Catalog.of(map(Resource.pack, resources))


def _outbound(lane: Lane, port: int, routing: Routing) -> Iterator[Message]:
    name = f"outbound|{port}||{lane.name}"
    for cluster in [name] if port == ECHO else routing.clusters(name):
        yield eds_cluster(cluster, circuit_breakers={"thresholds": [_LIMITS]})
        yield assignment(cluster, locality(member((lane.server, port))))
    if port == ECHO:
        yield captured(name, (lane.service, port), tcp_to(name))
        return
    rds = {"route_config_name": name, "config_source": ADS}
    yield captured(name, (lane.service, port), http_to(rds=rds))
    hosts = routing.virtual_hosts(name, (lane.service, port))
    yield parse("RDS", {"name": name, "virtual_hosts": hosts})


def _catch_all() -> Iterator[Message]:
    """Istio's virtualOutbound: hands a connection to the listener of its original destination, or lets it through."""
    yield _original_destination("PassthroughCluster")
    listener = {
        "name": "virtualOutbound",
        "address": socket_address("0.0.0.0", OUTBOUND_PORT),
        "use_original_dst": True,
        "traffic_direction": "OUTBOUND",
        "filter_chains": [filter_chain(tcp_to("PassthroughCluster"))],
    }
    yield parse("LDS", listener)


def _inbound() -> Iterator[Message]:
    """Istio's virtualInbound: a filter chain for each port of the pod."""
    for port in PORTS:
        source = {"source_address": {"address": _INBOUND_SOURCE, "port_value": 0}}
        limits = {"thresholds": [_LIMITS]}
        yield _original_destination(_inbound_name(port), upstream_bind_config=source, circuit_breakers=limits)
    original_dst = {
        "name": "envoy.filters.listener.original_dst",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
        },
    }
    listener = {
        "name": "virtualInbound",
        "address": socket_address("0.0.0.0", INBOUND_PORT),
        "traffic_direction": "INBOUND",
        "listener_filters": [original_dst],
        "filter_chains": [
            filter_chain(_inbound_filter(port), filter_chain_match={"destination_port": port}) for port in PORTS
        ],
    }
    yield parse("LDS", listener)


def _inbound_filter(port: int) -> dict[str, Any]:
    name = _inbound_name(port)
    return tcp_to(name) if port == ECHO else http_to(name)


def _inbound_name(port: int) -> str:
    return f"inbound|{port}||"


def _original_destination(name: str, **more: Any) -> Message:
    cluster = {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s"}
    return parse("CDS", cluster | more)
