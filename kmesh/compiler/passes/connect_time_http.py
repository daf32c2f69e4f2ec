"""HTTP connection managers whose every request must go to one same cluster become that cluster.

    http: virtual host * routes / -> a
 -> cluster a

    http: virtual host * routes /x -> a, / -> b
 -> refuse unsupported

The bytes then pass as they are, so nothing may change them: no route with actions of its own, and no cluster to
which Envoy would speak HTTP/2 whatever the client speaks.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.compiler.ir import Choice, Filtered, ListenerUnit, Program, Refuse, ToCluster
from kmesh.compiler.report import Report, has_refused, report_limitations
from kmesh.compiler.rewrite import rewrite_listeners
from kmesh.errors import Unsupported
from kmesh.model.cluster import UpstreamHttp
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import HttpConnectionManager
from kmesh.model.route import ClusterAction, Route, RouteConfiguration, VirtualHost
from kmesh.records.constants import Reason

__all__ = ["connect_time_http"]


def connect_time_http(program: Program) -> Program:
    return rewrite_listeners(program, _lower)


def _lower(unit: ListenerUnit, choice: Choice, found: list[Report]) -> Choice:
    match choice:
        case Filtered(chain) if isinstance(chain.network, HttpConnectionManager):
            manager = chain.network
        case _:
            return choice
    route_config = manager.route_config or unit.route_configs.get(manager.rds_name)
    if not route_config or not route_config.virtual_hosts:
        return Refuse(Reason.NO_ROUTE)
    limitations = tuple(_limitations_met(route_config))
    kind, name = ("listener", unit.name) if manager.route_config else ("route configuration", route_config.name)
    found += report_limitations(kind, name, limitations)
    if has_refused(limitations):
        return Refuse(Reason.UNSUPPORTED)
    try:
        return ToCluster(_find_only_cluster(unit, route_config))
    except Unsupported as why:
        found.append(
            Report(
                kind="listener",
                name=unit.name,
                feature=why.feature,
                path=f"route configuration {route_config.name!r} {why.path}".rstrip(),
                effect=Effect.REFUSED,
                consequence="requests are not yet routed one by one: the listener's HTTP connections are refused",
            )
        )
        return Refuse(Reason.UNSUPPORTED)


def _find_only_cluster(unit: ListenerUnit, route_config: RouteConfiguration) -> str:
    """The cluster of every request. Raises: Unsupported where there are several outcomes."""
    if not any("*" in host.domains for host in route_config.virtual_hosts):
        raise Unsupported("virtual hosts without one for every domain", "virtual_hosts")
    cluster: str | None = None
    for number, host in enumerate(route_config.virtual_hosts):
        path = f"virtual_hosts[{number}].routes"
        routes = _routes_met(host)
        if not routes or not routes[-1].matches_all:
            raise Unsupported("a virtual host without a route for every request", path)
        for index, route in enumerate(routes):
            target = _follow(route, f"{path}[{index}]")
            if cluster not in (None, target):
                raise Unsupported("routes to several clusters", f"{path}[{index}]")
            cluster = target
    assert cluster is not None
    upstream = unit.clusters.get(cluster)
    if upstream and upstream.upstream_http is UpstreamHttp.HTTP2:
        raise Unsupported(f"HTTP/2 to cluster {cluster!r} whatever the client speaks", "")
    return cluster


def _follow(route: Route, path: str) -> str:
    """The cluster of a route that leads to one and leaves the exchange alone. Raises: Unsupported."""
    features = [limit.feature for limit in route.limitations if limit.effect is Effect.REFUSED]
    if features or not isinstance(route.action, ClusterAction):
        name = features[0] if features else route.action.feature
        raise Unsupported(f"route action {name.rpartition('.')[2]}", path)
    return route.action.cluster


def _routes_met(host: VirtualHost) -> tuple[Route, ...]:
    """The routes that some request can reach: up to the first that takes all."""
    for index, route in enumerate(host.routes):
        if route.matches_all:
            return host.routes[: index + 1]
    return host.routes


def _limitations_met(route_config: RouteConfiguration) -> Iterator[Limitation]:
    yield from route_config.limitations
    for host in route_config.virtual_hosts:
        yield from host.limitations
        for route in _routes_met(host):
            yield from (limit for limit in route.limitations if limit.effect is not Effect.REFUSED)
