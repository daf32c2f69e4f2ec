"""Snapshot -> Compilation, unit by unit, keeping what did not change.

Rules: the result is a pure function of the snapshot; what is kept only saves work. A unit is compiled again when one
of the model objects it reads is another object than before, so a snapshot that shares objects with the one before
costs what changed and one identity check for each unit.

Only what connections can reach is compiled: listeners that capture something, and the clusters they lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import is_
from typing import Generic, NamedTuple, TypeVar

from kmesh.compiler.build import build_cluster, build_listener, names_read
from kmesh.compiler.claims import Claims, Destination, claim_destinations
from kmesh.compiler.emit import emit_cluster, emit_listener
from kmesh.compiler.ir import ClusterUnit, ListenerUnit, Program, Refuse, ToCluster, leaves
from kmesh.compiler.passes import run_passes
from kmesh.compiler.report import Report
from kmesh.errors import Unsupported
from kmesh.maps.image import Fragment, MapImage
from kmesh.model.address import V4_MAPPED
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
    reports: tuple[Report, ...]
    """Of every resource in use: listeners by name, then clusters by name."""


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
        self._clusters: dict[str, _Compiled[ClusterUnit]] = {}
        self._reached: tuple[str, ...] = ()
        """Names of the clusters that listeners lead to, sorted."""

    def compile(self, snapshot: Snapshot) -> Compilation:
        self._compile_listeners(snapshot)
        self._compile_clusters(snapshot)
        self._snapshot = snapshot
        listeners, clusters = self._listeners, self._clusters
        program = Program(
            listeners=tuple([compiled.unit for compiled in listeners.values()]),
            clusters=tuple([compiled.unit for compiled in clusters.values()]),
        )
        fragments = {("listener", name): compiled.fragment for name, compiled in listeners.items()}
        fragments |= {("cluster", name): compiled.fragment for name, compiled in clusters.items()}
        return Compilation(
            image=MapImage(fragments), program=program, reports=_collect_reports(self._claims.reports, program)
        )

    def _compile_listeners(self, snapshot: Snapshot) -> None:
        before = self._snapshot
        has_listeners = _is_same(before.listeners, snapshot.listeners)
        if (
            has_listeners
            and _is_same(before.route_configs, snapshot.route_configs)
            and _is_same(before.clusters, snapshot.clusters)
        ):
            return
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
        self._listeners = {name: fresh[name] if name in fresh else known[name] for name in claims}
        self._reached = tuple(sorted({name for c in self._listeners.values() for name in _clusters_of(c.unit)}))

    def _compile_clusters(self, snapshot: Snapshot) -> None:
        known, clusters, assignments = self._clusters, snapshot.clusters, snapshot.assignments
        changed = [
            name
            for name in self._reached
            if name not in known
            or known[name].objects[0] is not clusters.get(name)
            or known[name].objects[1] is not assignments.get(name)
        ]
        units = (build_cluster(name, clusters.get(name), assignments.get(name)) for name in changed)
        lowered = run_passes(Program(clusters=tuple(units))).clusters
        fresh = {
            unit.name: _Compiled(
                (clusters.get(unit.name), assignments.get(unit.name)), (), *_emit(unit, emit_cluster, known)
            )
            for unit in lowered
        }
        self._clusters = {name: fresh[name] if name in fresh else known[name] for name in self._reached}


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


def _collect_reports(inactive: Iterable[Report], program: Program) -> tuple[Report, ...]:
    reports = [*inactive]
    ipv6_only = {unit.name for unit in program.clusters if unit.has_ipv6_only}
    for listener in program.listeners:
        reports += listener.reports
        if ipv6_only:
            reports += _report_family_gaps(listener, ipv6_only)
    reports.sort(key=lambda report: report.name)
    for cluster in program.clusters:
        reports += cluster.reports
    return tuple(dict.fromkeys(reports))


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
