"""Which resources a resource names: the edges along which configurations are discovered and warmed."""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.model.listener import HttpConnectionManager, Listener, TcpProxy, UdpProxy
from kmesh.model.route import ClusterAction, RouteConfiguration, WeightedClusters

__all__ = ["clusters_of_listener", "clusters_of_routes", "route_configs_of"]


def route_configs_of(listener: Listener) -> frozenset[str]:
    """Names to subscribe to for RDS."""
    networks = (chain.network for chain in listener.all_filter_chains)
    return frozenset(n.rds_name for n in networks if isinstance(n, HttpConnectionManager) and n.rds_name)


def clusters_of_listener(listener: Listener) -> frozenset[str]:
    """Clusters named by the listener itself, inline route configurations included."""
    return frozenset(_clusters_of_chains(listener))


def clusters_of_routes(route_config: RouteConfiguration) -> frozenset[str]:
    """Clusters that its routes name; one named by a request is not known here."""
    return frozenset(_clusters_of_routes(route_config))


def _clusters_of_chains(listener: Listener) -> Iterator[str]:
    for chain in listener.all_filter_chains:
        match chain.network:
            case TcpProxy(clusters=clusters):
                yield from (weighted.name for weighted in clusters)
            case UdpProxy(cluster=cluster):
                yield cluster
            case HttpConnectionManager(route_config=RouteConfiguration() as inline):
                yield from _clusters_of_routes(inline)


def _clusters_of_routes(route_config: RouteConfiguration) -> Iterator[str]:
    for host in route_config.virtual_hosts:
        for route in host.routes:
            match route.action:
                case ClusterAction(cluster=cluster):
                    yield cluster
                case WeightedClusters(clusters=clusters):
                    yield from (weighted.name for weighted in clusters)
