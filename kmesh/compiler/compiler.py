"""Snapshot -> Compilation, unit by unit, keeping what did not change.

Rules: the result is a pure function of the snapshot; what is kept only saves work. A unit is compiled again when one
of the model objects it reads is another object than before, so a snapshot that shares objects with the one before
costs what changed and one identity check for each unit.

Only what connections can reach is compiled: listeners that capture something, the routes they lead to, and the
clusters that either leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from operator import is_, is_not
from typing import Generic, NamedTuple, TypeVar

from kmesh.compiler.build import build_cluster, build_listener, names_read
from kmesh.compiler.claims import Claims, Destination, claim_destinations
from kmesh.compiler.emit import emit_cluster, emit_listener
from kmesh.compiler.ir import ClusterUnit, ListenerUnit, Program, Refuse, Routing, ToCluster, ToRoutes, leaves
from kmesh.compiler.passes import run_passes
from kmesh.compiler.report import Report
from kmesh.compiler.routes.unit import RoutingUnit, compile_routing
from kmesh.errors import Unsupported
from kmesh.maps.image import Fragment, MapImage
from kmesh.model.address import V4_MAPPED
from kmesh.model.cluster import Cluster, UpstreamHttp
from kmesh.model.limitation import Effect
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Reason

__all__ = ["Compilation", "Compiler"]

_Unit = TypeVar("_Unit", ListenerUnit, ClusterUnit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    image: MapImage
    program: Program
    """After every pass: what `kmeshctl dump ir` shows."""
    routings: Mapping[str, RoutingUnit] = field(default_factory=dict)
    """By name, those that listeners lead to."""
    upstreams: Mapping[str, Cluster] = field(default_factory=dict)
    """By name, the clusters that exist and routes lead to."""
    inactive: tuple[Report, ...] = ()
    """Of listeners that capture less than they say."""

    @property
    def reports(self) -> tuple[Report, ...]:
        """Of every resource in use: listeners, then routes, then clusters. Costs the whole program each time."""
        routings = chain.from_iterable(unit.reports for unit in self.routings.values())
        return _collect_reports(self.inactive, self.program, chain(routings, _report_http2(self.upstreams)))


class _Compiled(NamedTuple, Generic[_Unit]):
    objects: tuple[object, ...]
    """The model objects it was compiled from, compared by identity; None for one that was missing."""
    destinations: tuple[Destination, ...]
    """Of a listener, compared by value; () for a cluster."""
    unit: _Unit
    fragment: Fragment


class Compiler:
    """Compiles one snapshot after another. Keeps the units of the last one."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._claims = Claims(destinations={}, reports=())
        self._listeners: dict[str, _Compiled[ListenerUnit]] = {}
        self._routings: dict[str, RoutingUnit] = {}
        self._clusters: dict[str, _Compiled[ClusterUnit]] = {}
        self._reached: tuple[str, ...] = ()
        """Names of the clusters that listeners and routes lead to, sorted."""
        self._routed: tuple[str, ...] | None = ()
        """Names of those that routes lead to, sorted; None: to any."""
        self._fragments: dict[tuple[str, str], Fragment] = {}

    def compile(self, snapshot: Snapshot) -> Compilation:
        names, routings = ([*self._listeners], [*self._clusters]), self._routings
        listeners = self._compile_listeners(snapshot)
        clusters = self._compile_clusters(snapshot)
        self._snapshot = snapshot
        if names == ([*self._listeners], [*self._clusters]) and routings is self._routings:
            fragments = {**self._fragments, **_fragments_of(listeners, {}, clusters)}
        else:
            fragments = _fragments_of(self._listeners, self._routings, self._clusters)
        self._fragments = fragments
        program = Program(
            listeners=tuple([compiled.unit for compiled in self._listeners.values()]),
            clusters=tuple([compiled.unit for compiled in self._clusters.values()]),
        )
        return Compilation(
            image=MapImage(fragments),
            program=program,
            routings=self._routings,
            upstreams=self._find_upstreams(snapshot),
            inactive=self._claims.reports,
        )

    def _compile_listeners(self, snapshot: Snapshot) -> dict[str, _Compiled[ListenerUnit]]:
        """Returns those that are new."""
        before = self._snapshot
        has_listeners = _is_same(before.listeners, snapshot.listeners)
        if (
            has_listeners
            and _is_same(before.route_configs, snapshot.route_configs)
            and _is_same(before.clusters, snapshot.clusters)
        ):
            return {}
        if not has_listeners:
            self._claims = claim_destinations(snapshot.listeners)
        known, claims = self._listeners, self._claims.destinations
        objects = {name: _objects_read(snapshot, name) for name in claims}
        changed = [
            name
            for name, destinations in claims.items()
            if name not in known
            or known[name].destinations != destinations
            or not _are_same(known[name].objects, objects[name])
        ]
        units = (
            build_listener(snapshot.listeners[name], claims[name], snapshot.route_configs, snapshot.clusters)
            for name in changed
        )
        lowered = run_passes(Program(listeners=tuple(units))).listeners
        fresh = {
            unit.name: _Compiled(objects[unit.name], claims[unit.name], *_emit(unit, emit_listener, known))
            for unit in lowered
        }
        self._listeners = _merge(known, fresh, claims)
        if fresh or len(known) != len(self._listeners):
            self._compile_routings()
        return fresh

    def _compile_routings(self) -> None:
        """After listeners have changed: what they lead to."""
        routings = {routing.name: routing for c in self._listeners.values() for routing in _routings_of(c.unit)}
        known = self._routings
        units = {name: compile_routing(routing, known.get(name)) for name, routing in sorted(routings.items())}
        if not _is_same(known, units):
            self._routings = units
        routed = {name for unit in units.values() for name in unit.clusters}
        reached = {name for c in self._listeners.values() for name in _clusters_of(c.unit)}
        self._reached = tuple(sorted(reached | routed))
        self._routed = None if any(unit.leads_anywhere for unit in units.values()) else tuple(sorted(routed))

    def _find_upstreams(self, snapshot: Snapshot) -> Mapping[str, Cluster]:
        if self._routed is None:
            return snapshot.clusters
        return {name: snapshot.clusters[name] for name in self._routed if name in snapshot.clusters}

    def _compile_clusters(self, snapshot: Snapshot) -> dict[str, _Compiled[ClusterUnit]]:
        """Returns those that are new."""
        before, known = self._snapshot, self._clusters
        clusters, assignments = snapshot.clusters, snapshot.assignments
        touched = {*_find_changed(before.clusters, clusters), *_find_changed(before.assignments, assignments)}
        reached = self._reached if self._routed is not None else tuple(sorted({*self._reached, *clusters}))
        changed = [name for name in reached if name in touched or name not in known]
        units = (build_cluster(name, clusters.get(name), assignments.get(name)) for name in changed)
        lowered = run_passes(Program(clusters=tuple(units))).clusters
        fresh = {
            unit.name: _Compiled(
                (clusters.get(unit.name), assignments.get(unit.name)), (), *_emit(unit, emit_cluster, known)
            )
            for unit in lowered
        }
        self._clusters = _merge(known, fresh, reached)
        return fresh


def _find_changed(before: Mapping[str, object], after: Mapping[str, object]) -> Iterable[str]:
    """Names under which the two do not hold the same object; those that only one of them has, too."""
    if before is after:
        return ()
    if list(before) == list(after):  # nearly always; and costs little, as the names are the same objects
        return compress(after, map(is_not, before.values(), after.values()))
    return [name for name in {**before, **after} if before.get(name) is not after.get(name)]


def _merge(
    known: Mapping[str, _Compiled[_Unit]], fresh: Mapping[str, _Compiled[_Unit]], names: Iterable[str]
) -> dict[str, _Compiled[_Unit]]:
    """Exactly `names`, in their order; each is in `fresh`, or else in `known`."""
    merged = {**known, **fresh}
    return merged if list(merged) == list(names) else {name: merged[name] for name in names}


def _fragments_of(
    listeners: Mapping[str, _Compiled[ListenerUnit]],
    routings: Mapping[str, RoutingUnit],
    clusters: Mapping[str, _Compiled[ClusterUnit]],
) -> dict[tuple[str, str], Fragment]:
    fragments = {("listener", name): compiled.fragment for name, compiled in listeners.items()}
    for unit in routings.values():
        fragments.update(unit.fragments)
    return fragments | {("cluster", name): compiled.fragment for name, compiled in clusters.items()}


def _is_same(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    """Whether two mappings hold the same objects under the same names, in the same order."""
    return before is after or (all(map(str.__eq__, before, after)) and _are_same(before.values(), after.values()))


def _are_same(before: Collection[object], after: Collection[object]) -> bool:
    return len(before) == len(after) and all(map(is_, before, after))


def _objects_read(snapshot: Snapshot, name: str) -> tuple[object, ...]:
    """What the unit of a listener is closed over."""
    listener = snapshot.listeners[name]
    route_names, cluster_names = names_read(listener, snapshot.route_configs)
    route_configs = map(snapshot.route_configs.get, route_names)
    return (listener, *route_configs, *map(snapshot.clusters.get, cluster_names))


def _emit(
    unit: _Unit, emit: Callable[[_Unit], Fragment], known: Mapping[str, _Compiled[_Unit]]
) -> tuple[_Unit, Fragment]:
    """The unit and its records, or the refusal that stands for it where it has no records.

    A fragment that came out equal stays the object it was, so that a diff has nothing to look at.
    """
    try:
        fragment = emit(unit)
    except Unsupported as why:
        unit = _refuse(unit, why)
        fragment = emit(unit)
    before = known.get(unit.name)
    return unit, before.fragment if before and before.fragment == fragment else fragment


def _refuse(unit: _Unit, why: Unsupported) -> _Unit:
    refusal = Refuse(Reason.UNSUPPORTED)
    report = Report(
        kind="listener" if isinstance(unit, ListenerUnit) else "cluster",
        name=unit.name,
        feature=why.feature,
        path=why.path,
        effect=Effect.REFUSED,
        consequence="its connections are refused",
    )
    reports = (*unit.reports, report)
    if isinstance(unit, ListenerUnit):
        frontends = tuple(replace(frontend, choice=refusal) for frontend in unit.frontends)
        return replace(unit, frontends=frontends, reports=reports)
    return replace(unit, choice=refusal, reports=reports)


def _clusters_of(unit: ListenerUnit) -> set[str]:
    return {
        leaf.name for frontend in unit.frontends for leaf in leaves(frontend.choice) if isinstance(leaf, ToCluster)
    }


def _routings_of(unit: ListenerUnit) -> Iterator[Routing]:
    for frontend in unit.frontends:
        yield from (leaf.routing for leaf in leaves(frontend.choice) if isinstance(leaf, ToRoutes))


def _collect_reports(inactive: Iterable[Report], program: Program, routings: Iterable[Report]) -> tuple[Report, ...]:
    reports = [*inactive]
    ipv6_only = {unit.name for unit in program.clusters if unit.has_ipv6_only}
    for listener in program.listeners:
        reports += listener.reports
        if ipv6_only:
            reports += _report_family_gaps(listener, ipv6_only)
    reports.sort(key=lambda report: report.name)
    reports += routings
    for cluster in program.clusters:
        reports += cluster.reports
    return tuple(dict.fromkeys(reports))


def _report_http2(upstreams: Mapping[str, Cluster]) -> Iterable[Report]:
    for name in sorted(upstreams):
        if upstreams[name].upstream_http is UpstreamHttp.HTTP2:
            yield Report(
                kind="cluster",
                name=name,
                feature="HTTP/2 whatever the client speaks",
                path="",
                effect=Effect.REFUSED,
                consequence="requests are sent on as HTTP/1.1, so those to it are refused",
            )


def _report_family_gaps(listener: ListenerUnit, ipv6_only: set[str]) -> Iterable[Report]:
    if not any(frontend.addr16.startswith(V4_MAPPED) for frontend in listener.frontends):
        return
    for name in sorted(ipv6_only & _clusters_of(listener)):
        yield Report(
            kind="listener",
            name=listener.name,
            feature=f"IPv6-only endpoints of cluster {name!r}",
            path="",
            effect=Effect.REFUSED,
            consequence="an IPv4 socket that is given one of them is refused",
        )
