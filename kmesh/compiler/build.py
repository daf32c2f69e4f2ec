"""Snapshot -> IR: one unit from one resource and what its lowering reads. Nothing is decided here but refusals of a
listener as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kmesh.compiler.claims import Destination, is_v4_prefix
from kmesh.compiler.ir import Chains, Choice, ClusterUnit, Frontend, ListenerUnit, Refuse, Unresolved
from kmesh.compiler.report import Report, report_limitations
from kmesh.model.cluster import Cluster
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.limitation import Effect
from kmesh.model.listener import HttpConnectionManager, Listener, TcpProxy
from kmesh.model.route import ClusterAction, RouteConfiguration
from kmesh.records.constants import Reason

__all__ = ["build_cluster", "build_listener", "names_read"]


def build_listener(
    listener: Listener,
    destinations: tuple[Destination, ...],
    route_configs: Mapping[str, RouteConfiguration],
    clusters: Mapping[str, Cluster],
) -> ListenerUnit:
    """The unit of a listener that captures `destinations`, holding only what it reads of the two mappings."""
    reports = report_limitations("listener", listener.name, listener.limitations) + _find_open_ranges(listener)
    choice: Choice = Chains(
        chains=listener.filter_chains, default=listener.default_filter_chain, detection=listener.detection
    )
    if any(report.effect is Effect.REFUSED for report in reports):
        choice = Refuse(Reason.UNSUPPORTED)
    route_names, cluster_names = names_read(listener, route_configs)
    return ListenerUnit(
        name=listener.name,
        frontends=tuple(
            Frontend(addr16=addr16, port=port, protocol=protocol, choice=choice)
            for addr16, port, protocol in destinations
        ),
        route_configs={name: route_configs[name] for name in route_names if name in route_configs},
        clusters={name: clusters[name] for name in cluster_names if name in clusters},
        reports=reports,
    )


def build_cluster(name: str, cluster: Cluster | None, assignment: ClusterLoadAssignment | None) -> ClusterUnit:
    """The unit of a cluster, or of a name that listeners lead to and no cluster has."""
    reports: tuple[Report, ...] = ()
    if cluster:
        reports = report_limitations("cluster", name, cluster.limitations)
    if cluster and assignment:
        reports += report_limitations("cluster load assignment", assignment.name, assignment.limitations)
    return ClusterUnit(name=name, choice=Unresolved(cluster=cluster, assignment=assignment), reports=reports)


def names_read(
    listener: Listener, route_configs: Mapping[str, RouteConfiguration]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(route configurations, clusters) whose content bears on how the listener compiles."""
    routes: dict[str, None] = {}
    clusters: dict[str, None] = {}
    for chain in listener.all_filter_chains:
        match chain.network:
            case TcpProxy(has_source_ip_hash=True) as proxy:
                clusters.update(dict.fromkeys(weighted.name for weighted in proxy.clusters))
            case HttpConnectionManager(route_config=inline, rds_name=name):
                if not inline:
                    routes[name] = None
                route_config = inline or route_configs.get(name)
                if route_config:
                    clusters.update(dict.fromkeys(_first_cluster(route_config)))
            case _:
                pass
    return tuple(routes), tuple(clusters)


def _first_cluster(route_config: RouteConfiguration) -> Iterator[str]:
    """The cluster of the first route that has one: only where it is that of all routes does it bear on anything."""
    for host in route_config.virtual_hosts:
        for route in host.routes:
            if isinstance(route.action, ClusterAction):
                yield route.action.cluster
                return


def _find_open_ranges(listener: Listener) -> tuple[Report, ...]:
    """Destination ranges that no finite number of frontends can stand for: of more than one host (and not of a whole
    family), or of one host at any port."""
    is_wild = listener.use_original_dst or any(address.is_wildcard for address in listener.addresses)
    if not is_wild:
        return ()
    for index, chain in enumerate(listener.filter_chains):
        any_port = listener.use_original_dst and not chain.match.destination_port
        for prefix, bits in chain.match.prefix_ranges:
            whole_family = 96 if is_v4_prefix(prefix, bits) else 0
            if bits == whole_family or (bits == 128 and not any_port):
                continue
            return (
                Report(
                    kind="listener",
                    name=listener.name,
                    feature="filter_chain_match.prefix_ranges",
                    path=f"filter_chains[{index}].filter_chain_match.prefix_ranges",
                    effect=Effect.REFUSED,
                    consequence="on a wildcard address only ranges of one host, at a known port, can be told apart: "
                    "the listener's connections are refused",
                ),
            )
    return ()
