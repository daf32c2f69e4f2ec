"""HTTP connection managers: where every request must go to one same cluster, that cluster; else routes.

    http: virtual host * routes / -> a
 -> cluster a

    http: virtual host * routes /x -> a, / -> b
 -> routes b

To a cluster the bytes pass as they are, so nothing may change them: no route with features of its own, and no cluster
to which Envoy would speak HTTP/2 whatever the client speaks. What routes ask for is their unit's to report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from kmesh.compiler.ir import Choice, Filtered, ListenerUnit, Program, Refuse, Routing, ToCluster, ToRoutes
from kmesh.compiler.report import Report, has_refused, report_limitations
from kmesh.compiler.rewrite import rewrite_listeners
from kmesh.model.cluster import UpstreamHttp
from kmesh.model.limitation import Limitation
from kmesh.model.listener import FilterChain, HttpConnectionManager, Normalization
from kmesh.model.route import ClusterAction, Route, RouteConfiguration, VirtualHost
from kmesh.records.constants import Reason
from kmesh.records.digest import content_id

__all__ = ["connect_time_http", "make_routing"]


def connect_time_http(program: Program) -> Program:
    return rewrite_listeners(program, _lower)


def _lower(unit: ListenerUnit, choice: Choice, found: list[Report]) -> Choice:
    match choice:
        case Filtered(chain) if isinstance(chain.network, HttpConnectionManager):
            manager = chain.network
        case _:
            return choice
    routing = make_routing(unit, chain)
    if not routing:
        return Refuse(Reason.NO_ROUTE)
    config = routing.config
    cluster = _find_only_cluster(unit, config)
    if cluster is None:
        return ToRoutes(routing)
    kind, name = ("listener", unit.name) if manager.route_config else ("route configuration", config.name)
    found += report_limitations(kind, name, tuple(_limitations_met(config)))
    return ToCluster(cluster)


def make_routing(unit: ListenerUnit, chain: FilterChain) -> Routing | None:
    """Of a chain that ends in an HTTP connection manager; None where that has no virtual host."""
    manager = chain.network
    assert isinstance(manager, HttpConnectionManager)
    config = manager.route_config or unit.route_configs.get(manager.rds_name)
    if not config or not config.virtual_hosts:
        return None
    return Routing(
        name=_name(unit, chain), config=config, normalization=manager.normalization, http10=manager.http10
    )


def _name(unit: ListenerUnit, chain: FilterChain) -> str:
    """Of a route configuration that is subscribed to, its own, so that listeners share it.

    One that is inline is named by its chain: no two of a listener match alike, though names may repeat.
    """
    manager = chain.network
    assert isinstance(manager, HttpConnectionManager)
    if manager.rds_name:
        return " ".join((manager.rds_name, *_list_options(manager)))
    match = "" if chain.match.is_any else f"{content_id(repr(chain.match).encode()):016x}"
    return " ".join(filter(None, (unit.name, chain.name, match)))


def _list_options(manager: HttpConnectionManager) -> Iterator[str]:
    """What differs from the default, as xDS names it or its value."""
    if manager.http10:
        yield "accept_http_10"
        if manager.http10.default_host:
            yield f"default_host_for_http_10={manager.http10.default_host}"
    normalization = manager.normalization
    if normalization.normalizes_path:
        yield "normalize_path"
    if normalization.merges_slashes:
        yield "merge_slashes"
    if normalization.strips_trailing_dot:
        yield "strip_trailing_host_dot"
    for option, default in (
        (normalization.escaped_slashes, Normalization().escaped_slashes),
        (normalization.strip_port, Normalization().strip_port),
    ):
        if option is not default:
            yield str(option.value)


def _find_only_cluster(unit: ListenerUnit, config: RouteConfiguration) -> str | None:
    """The cluster of every request; None where there are several outcomes, or something is done to requests."""
    if has_refused(config.limitations) or not any("*" in host.domains for host in config.virtual_hosts):
        return None
    found = {_find_cluster_of(host) for host in config.virtual_hosts}
    cluster = found.pop()
    upstream = unit.clusters.get(cluster) if cluster is not None else None
    if found or (upstream and upstream.upstream_http is UpstreamHttp.HTTP2):
        return None
    return cluster


def _find_cluster_of(host: VirtualHost) -> str | None:
    """The same for the requests of one virtual host."""
    routes = _routes_met(host)
    if has_refused(host.limitations) or not routes or not routes[-1].matches_all:
        return None
    found = {_follow(route) for route in routes}
    return found.pop() if len(found) == 1 else None


def _follow(route: Route) -> str | None:
    """The cluster of a route that leads to one and leaves the exchange alone."""
    action = route.action
    return action.cluster if isinstance(action, ClusterAction) and not has_refused(route.limitations) else None


def _routes_met(host: VirtualHost) -> tuple[Route, ...]:
    """The routes that some request can reach: up to the first that takes all."""
    for index, route in enumerate(host.routes):
        if route.matches_all:
            return host.routes[: index + 1]
    return host.routes


def _limitations_met(config: RouteConfiguration) -> Iterator[Limitation]:
    """Of a configuration without one that refuses."""
    yield from config.limitations
    for number, host in enumerate(config.virtual_hosts):
        limits = chain(host.limitations, *(route.limitations for route in _routes_met(host)))
        yield from (replace(limit, path=f"virtual_hosts[{number}].{limit.path}") for limit in limits)
