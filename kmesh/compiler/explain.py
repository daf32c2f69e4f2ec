"""What becomes of one HTTP request: which listener, route and action, and whether and how it is carried. Pure.

The listener is found as connect() finds it, the route by kmesh.compiler.semantics, and `path` is what the compiler
makes of the listener: a connection decided at connect or refused, or routes, by which each request goes its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from kmesh.compiler import semantics
from kmesh.compiler.build import build_cluster, build_listener
from kmesh.compiler.claims import claim_destinations
from kmesh.compiler.emit import emit_listener
from kmesh.compiler.ir import (
    Choice,
    Filtered,
    ListenerUnit,
    OneOf,
    Program,
    Refuse,
    Routing,
    ToCluster,
    ToRoutes,
    leaves,
)
from kmesh.compiler.passes import run_passes
from kmesh.compiler.passes.select_chains import select_chains
from kmesh.compiler.report import Report
from kmesh.compiler.request_path import Path, find_request_path
from kmesh.compiler.routes.unit import RoutingUnit, compile_routing
from kmesh.compiler.semantics import ReplaceRegex, Reply, Request, Routed, Undecided, route_request
from kmesh.errors import Unsupported
from kmesh.model.address import WILDCARD_V4, WILDCARD_V6, Protocol, SocketAddress
from kmesh.model.cluster import Discovery, UpstreamHttp
from kmesh.model.limitation import Effect
from kmesh.model.listener import FilterChain, FilterChainMatch, HttpConnectionManager, TcpProxy
from kmesh.model.match import MILLION
from kmesh.model.snapshot import Snapshot
from kmesh.model.weighted_cluster import WeightedCluster

__all__ = ["Explanation", "Path", "explain"]

Action = dict[str, object]
"""`kind`, and what belongs to it."""

_DNS = (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Names are None where there is no such thing."""

    listener: str | None = None
    route_config: str | None = None
    virtual_host: str | None = None
    route: str | int | None = None
    """Its name, or its index where it has none."""
    action: Action
    path: Path
    why: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    """The routes before it, each with the condition that failed."""

    @property
    def is_found(self) -> bool:
        return self.action["kind"] != "no_route"

    def to_plain(self) -> dict[str, object]:
        """What JSON carries."""
        return {
            "listener": self.listener,
            "route_config": self.route_config,
            "virtual_host": self.virtual_host,
            "route": self.route,
            "action": self.action,
            "path": self.path.value,
            "why": list(self.why),
            "rejected": list(self.rejected),
        }


def explain(
    snapshot: Snapshot,
    destination: SocketAddress,
    request: Request,
    *,
    routings: Mapping[str, RoutingUnit] = MappingProxyType({}),
    replace_regex: ReplaceRegex | None = None,
) -> Explanation:
    """What becomes of `request` on a new TCP connection to `destination`.

    `routings` are units that are compiled already, by name; without `replace_regex` a redirect by regular expression
    is left undecided.
    """
    unit = _capture(snapshot, destination)
    if unit is None:
        return Explanation(
            action={"kind": "no_route"}, path=Path.DIRECT, why=(f"no listener captures {destination}",)
        )
    lowered = run_passes(Program(listeners=(unit,))).listeners[0]
    path, why = _carry(snapshot, lowered)
    chain = _select_chain(unit)
    match chain.network if chain else None:
        case TcpProxy(clusters=clusters):
            found = Explanation(action=_choose(clusters), path=path)
        case HttpConnectionManager() as manager:
            http = _Http(snapshot, manager, destination, request, routings, replace_regex)
            found = http.explain(path, lowered.frontends[0].choice)
        case _:
            action: Action = {"kind": "undecided", "feature": "the filter chain" if chain else "filter_chain_match"}
            found = Explanation(action=action, path=path)
    return replace(found, listener=unit.name, why=(*found.why, *why))


# The listener


def _capture(snapshot: Snapshot, destination: SocketAddress) -> ListenerUnit | None:
    """The unit of the listener that captures `destination`, with that one frontend. As kmesh.compiler.reference."""
    wildcard = WILDCARD_V4 if destination.is_v4 else WILDCARD_V6
    claims = claim_destinations(snapshot.listeners).destinations
    owners = {claimed: name for name, destinations in claims.items() for claimed in destinations}
    for addr16, port in ((destination.addr16, destination.port), (wildcard, destination.port), (wildcard, 0)):
        claimed = (addr16, port, Protocol.TCP)
        if claimed in owners:
            listener = snapshot.listeners[owners[claimed]]
            return build_listener(listener, (claimed,), snapshot.route_configs, snapshot.clusters)
    return None


def _select_chain(unit: ListenerUnit) -> FilterChain | None:
    """The one for HTTP/1.1 in plaintext; None where the client's address would have to tell, or there is none."""
    (frontend,) = select_chains(Program(listeners=(unit,))).listeners[0].frontends
    match frontend.choice:
        case Filtered(chain):
            return chain
        case OneOf(outcomes=outcomes):
            chains = [outcome.choice.chain for outcome in outcomes if isinstance(outcome.choice, Filtered)]
        case _:
            return None
    chains = [chain for chain in chains if not chain.match.server_names]
    chains = _prefer(chains, "raw_buffer", lambda match: tuple(filter(None, (match.transport_protocol,))))
    chains = _prefer(chains, "http/1.1", lambda match: match.application_protocols)
    return chains[0] if len(chains) == 1 else None


def _prefer(
    chains: list[FilterChain], value: str, read: Callable[[FilterChainMatch], tuple[str, ...]]
) -> list[FilterChain]:
    """Those that ask for `value`; where none does, those that ask for nothing."""
    asking = [chain for chain in chains if value in read(chain.match)]
    return asking or [chain for chain in chains if not read(chain.match)]


# The route


@dataclass(frozen=True, slots=True)
class _Http:
    """A request on a connection that a connection manager takes."""

    snapshot: Snapshot
    manager: HttpConnectionManager
    destination: SocketAddress
    request: Request
    routings: Mapping[str, RoutingUnit]
    replace_regex: ReplaceRegex | None

    def explain(self, path: Path, choice: Choice) -> Explanation:
        """`path` is the connection's; where that leads to routes, each request has its own."""
        manager, port = self.manager, self.destination.port
        config = manager.route_config or self.snapshot.route_configs.get(manager.rds_name)
        if config is None:
            why = (f"there is no route configuration {manager.rds_name!r}",)
            return Explanation(action={"kind": "no_route", "status": 404}, path=path, why=why)
        routed = route_request(
            config, manager.normalization, self.request, port=port, replace_regex=self.replace_regex
        )
        reasons: tuple[str, ...] = ()
        if isinstance(choice, ToRoutes):
            path, reasons = self._find_path(choice.routing, routed)
        return Explanation(
            route_config=config.name,
            virtual_host=routed.virtual_host.name if routed.virtual_host else None,
            route=_name_route(routed),
            action=_describe_action(routed),
            path=path,
            why=(*_explain_chance(routed), *reasons),
            rejected=tuple(
                f"route {rejection.route.name or rejection.index}: {rejection.condition}"
                for rejection in routed.rejected
            ),
        )

    def _find_path(self, routing: Routing, routed: Routed) -> tuple[Path, tuple[str, ...]]:
        known = self.routings.get(routing.name)
        unit = compile_routing(routing, known)
        path, reasons = find_request_path(unit, self.request, routed, self.destination.port)
        clusters = _clusters_of(routed)
        unspoken = [name for name in clusters if _is_http2_only(self.snapshot, name)]
        if unspoken and len(unspoken) == len(clusters):
            path = Path.REFUSED
        return path, (
            *reasons,
            *_find_refusals(self.snapshot, clusters).values(),
            *(f"cluster {name}: HTTP/2 whatever the client speaks: its requests are refused" for name in unspoken),
        )


def _is_http2_only(snapshot: Snapshot, name: str) -> bool:
    cluster = snapshot.clusters.get(name)
    return cluster is not None and cluster.upstream_http is UpstreamHttp.HTTP2


def _name_route(routed: Routed) -> str | int | None:
    return routed.route.name or routed.index if routed.route else None


def _describe_action(routed: Routed) -> Action:
    match routed.outcome:
        case semantics.ToCluster(name):
            return {"kind": "cluster", "cluster": name}
        case semantics.ToOneOf(clusters):
            return _choose(clusters)
        case Reply(status=status, location=bytes() as location):
            return {"kind": "redirect", "status": status, "location": location.decode(errors="backslashreplace")}
        case Reply(status=status):
            return {"kind": "direct_response" if routed.route else "no_route", "status": status}
        case Undecided(feature):
            return {"kind": "undecided", "feature": feature}


def _choose(clusters: Iterable[WeightedCluster]) -> Action:
    weights: dict[str, int] = {}
    for weighted in clusters:
        weights[weighted.name] = weights.get(weighted.name, 0) + weighted.weight
    if len(weights) == 1:
        return {"kind": "cluster", "cluster": next(iter(weights))}
    return {"kind": "weighted", "clusters": weights}


def _clusters_of(routed: Routed) -> tuple[str, ...]:
    match routed.outcome:
        case semantics.ToCluster(name):
            return (name,)
        case semantics.ToOneOf(clusters):
            return tuple(weighted.name for weighted in clusters)
        case _:
            return ()


def _explain_chance(routed: Routed) -> tuple[str, ...]:
    if not routed.route or routed.route.match.per_million == MILLION:
        return ()
    share = routed.route.match.per_million
    return (f"the route takes {share} of {MILLION} requests by chance; the others go on to the next",)


# The path


def _carry(snapshot: Snapshot, lowered: ListenerUnit) -> tuple[Path, tuple[str, ...]]:
    """What the compiler makes of the listener's connections to this destination, and of its clusters.

    KERNEL for those that lead to routes: the path of each request is its own.
    """
    choice = lowered.frontends[0].choice
    refusals = [_describe(report) for report in lowered.reports if report.effect is Effect.REFUSED]
    match choice:
        case Refuse(reason):
            return Path.REFUSED, (*refusals, f"connections are refused at connect: {reason.name.lower()}")
        case ToRoutes():
            return Path.KERNEL, ()
    try:
        emit_listener(lowered)
    except Unsupported as unsupported:
        return Path.REFUSED, (str(unsupported),)
    return _carry_to_clusters(snapshot, lowered, choice)


def _carry_to_clusters(snapshot: Snapshot, unit: ListenerUnit, choice: Choice) -> tuple[Path, tuple[str, ...]]:
    why = [_describe(report) for report in unit.reports]
    clusters = [leaf.name for leaf in leaves(choice) if isinstance(leaf, ToCluster)]
    refusals = _find_refusals(snapshot, clusters)
    why += refusals.values()
    if len(refusals) == len(clusters):
        return Path.REFUSED, tuple(why)
    return Path.KERNEL, (*why, "decided at connect: every request of the connection goes to the same endpoint")


def _find_refusals(snapshot: Snapshot, clusters: Iterable[str]) -> dict[str, str]:
    return {name: refusal for name in clusters if (refusal := _find_refusal(snapshot, name))}


def _find_refusal(snapshot: Snapshot, name: str) -> str | None:
    """Why connections to a cluster are refused; None when they are not, or only DNS could tell."""
    cluster, assignment = snapshot.clusters.get(name), snapshot.assignments.get(name)
    if cluster and cluster.discovery in _DNS and assignment is None:
        return None
    unit = run_passes(Program(clusters=(build_cluster(name, cluster, assignment),))).clusters[0]
    if not isinstance(unit.choice, Refuse):
        return None
    reports = [_describe(report) for report in unit.reports if report.effect is Effect.REFUSED]
    return "; ".join(reports) or f"cluster {name}: connections are refused: {unit.choice.reason.name.lower()}"


def _describe(report: Report) -> str:
    where = f" at {report.path}" if report.path else ""
    return f"{report.kind} {report.name}: {report.feature}{where}: {report.effect.value}: {report.consequence}"
