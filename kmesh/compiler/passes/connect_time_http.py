"""HTTP connection managers: where every request must go to one same cluster, that cluster; else routes.

    http: virtual host * routes / -> a
 -> cluster a

    http: virtual host * routes /x -> a, / -> b
 -> routes b

To a cluster the bytes pass as they are, so nothing may change them: no route with features of its own, and no cluster
to which Envoy would speak HTTP/2 whatever the client speaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from kmesh.compiler.ir import Choice, Filtered, ListenerUnit, Program, Refuse, Routing, ToCluster, ToRoutes
from kmesh.compiler.report import Report, has_refused, report_limitations
from kmesh.compiler.rewrite import rewrite_listeners
from kmesh.errors import Unsupported
from kmesh.model.cluster import UpstreamHttp
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import FilterChain, HttpConnectionManager, Normalization
from kmesh.model.route import ClusterAction, Route, RouteConfiguration, VirtualHost
from kmesh.records.constants import Reason
from kmesh.records.digest import content_id

__all__ = ["connect_time_http"]


def connect_time_http(program: Program) -> Program:
    return rewrite_listeners(program, _lower)


def _lower(unit: ListenerUnit, choice: Choice, found: list[Report]) -> Choice:
    match choice:
        case Filtered(chain) if isinstance(chain.network, HttpConnectionManager):
            manager = chain.network
        case _:
            return choice
    config = manager.route_config or unit.route_configs.get(manager.rds_name)
    if not config or not config.virtual_hosts:
        return Refuse(Reason.NO_ROUTE)
    try:
        cluster = _find_only_cluster(unit, config)
    except Unsupported as why:
        found.append(_report(unit, config, why))
        return ToRoutes(Routing(name=_name(unit, chain), config=config, normalization=manager.normalization))
    kind, name = ("listener", unit.name) if manager.route_config else ("route configuration", config.name)
    found += report_limitations(kind, name, tuple(_limitations_met(config)))
    return ToCluster(cluster)


def _name(unit: ListenerUnit, chain: FilterChain) -> str:
    """Of a route configuration that is subscribed to, its own, so that listeners share it.

    One that is inline is named by its chain: no two of a listener match alike, though names may repeat.
    """
    manager = chain.network
    assert isinstance(manager, HttpConnectionManager)
    if manager.rds_name:
        return " ".join((manager.rds_name, *_list_options(manager.normalization)))
    match = "" if chain.match.is_any else f"{content_id(repr(chain.match).encode()):016x}"
    return " ".join(filter(None, (unit.name, chain.name, match)))


def _list_options(normalization: Normalization) -> Iterator[str]:
    """What differs from the default, as xDS names it or its value."""
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


def _report(unit: ListenerUnit, config: RouteConfiguration, why: Unsupported) -> Report:
    return Report(
        kind="listener",
        name=unit.name,
        feature=why.feature,
        path=f"route configuration {config.name!r} {why.path}".rstrip(),
        effect=Effect.REFUSED,
        consequence="requests are not yet routed one by one: the listener's HTTP connections are refused",
    )


def _find_only_cluster(unit: ListenerUnit, config: RouteConfiguration) -> str:
    """The cluster of every request. Raises: Unsupported where there are several outcomes."""
    if has_refused(config.limitations):
        raise Unsupported(_first_refused(config.limitations), "")
    if not any("*" in host.domains for host in config.virtual_hosts):
        raise Unsupported("virtual hosts without one for every domain", "virtual_hosts")
    cluster: str | None = None
    for number, host in enumerate(config.virtual_hosts):
        path = f"virtual_hosts[{number}]"
        if has_refused(host.limitations):
            raise Unsupported(_first_refused(host.limitations), path)
        routes = _routes_met(host)
        if not routes or not routes[-1].matches_all:
            raise Unsupported("a virtual host without a route for every request", f"{path}.routes")
        for index, route in enumerate(routes):
            target = _follow(route, f"{path}.routes[{index}]")
            if cluster not in (None, target):
                raise Unsupported("routes to several clusters", f"{path}.routes[{index}]")
            cluster = target
    assert cluster is not None
    upstream = unit.clusters.get(cluster)
    if upstream and upstream.upstream_http is UpstreamHttp.HTTP2:
        raise Unsupported(f"HTTP/2 to cluster {cluster!r} whatever the client speaks", "")
    return cluster


def _follow(route: Route, path: str) -> str:
    """The cluster of a route that leads to one and leaves the exchange alone. Raises: Unsupported."""
    limitations = route.limitations
    if not has_refused(limitations) and isinstance(route.action, ClusterAction):
        return route.action.cluster
    name = _first_refused(limitations) if has_refused(limitations) else route.action.feature
    raise Unsupported(f"route action {name.rpartition('.')[2]}", path)


def _first_refused(limitations: tuple[Limitation, ...]) -> str:
    return next(limit.feature for limit in limitations if limit.effect is Effect.REFUSED)


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
