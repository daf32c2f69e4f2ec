"""What a cluster is, before balancing: endpoints to choose among, the original destination, or a refusal.

    unresolved web (EDS, 3 endpoints)   -> members of web
    unresolved BlackHoleCluster (STATIC) -> refuse blackhole
    unresolved, no such cluster          -> refuse no_cluster
"""

from __future__ import annotations

from dataclasses import replace

from kmesh.compiler.ir import Choice, ClusterUnit, Members, Pass, Program, Refuse, Unresolved
from kmesh.compiler.report import Report, has_refused
from kmesh.compiler.rewrite import rewrite_clusters
from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, LbPolicy
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Locality, LocalityEndpoints
from kmesh.model.limitation import Effect
from kmesh.records.constants import Reason

__all__ = ["resolve_clusters"]


def resolve_clusters(program: Program) -> Program:
    return rewrite_clusters(program, _resolve)


def _resolve(unit: ClusterUnit, choice: Choice, found: list[Report]) -> Choice:
    match choice:
        case Unresolved(cluster=None):
            found.append(_report(unit, "no such cluster", "connections that lead to it are refused"))
            return Refuse(Reason.NO_CLUSTER)
        case Unresolved(cluster=cluster, assignment=assignment) if cluster:
            return _resolve_cluster(unit, cluster, assignment, found)
        case _:
            return choice


def _resolve_cluster(
    unit: ClusterUnit, cluster: Cluster, assignment: ClusterLoadAssignment | None, found: list[Report]
) -> Choice:
    if has_refused(cluster.limitations):
        return Refuse(Reason.UNSUPPORTED)
    if cluster.discovery is Discovery.ORIGINAL_DST:
        return Pass()
    if assignment and has_refused(assignment.limitations):
        return Refuse(Reason.UNSUPPORTED)
    if cluster.lb_policy is LbPolicy.CLUSTER_PROVIDED:
        found.append(_report(unit, "lb_policy CLUSTER_PROVIDED", "its connections are refused"))
        return Refuse(Reason.UNSUPPORTED)
    localities = _merge_localities(assignment) if assignment else ()
    if assignment and localities:
        return Members(cluster=cluster, assignment=replace(assignment, localities=localities))
    return Refuse(Reason.BLACKHOLE if cluster.discovery is Discovery.STATIC else Reason.NO_ENDPOINT)


def _merge_localities(assignment: ClusterLoadAssignment) -> tuple[LocalityEndpoints, ...]:
    """Each (priority, locality) once and each address once, sorted; no locality without endpoints.

    As Envoy does: of endpoints with one address the first stays, of locality weights the last.
    """
    seen: set[SocketAddress | HostAddress] = set()
    merged: dict[tuple[int, Locality], LocalityEndpoints] = {}
    for group in assignment.localities:
        key = (group.priority, group.locality)
        endpoints = _first_of_each_address(group.endpoints, seen)
        if key in merged:
            earlier = merged[key]
            endpoints = earlier.endpoints + endpoints
            group = replace(group, weight=earlier.weight if group.weight is None else group.weight)
        merged[key] = group if endpoints is group.endpoints else replace(group, endpoints=endpoints)
    return tuple(merged[key] for key in sorted(merged, key=_order) if merged[key].endpoints)


def _order(key: tuple[int, Locality]) -> tuple[int, str, str, str]:
    priority, locality = key
    return priority, locality.region, locality.zone, locality.sub_zone


def _first_of_each_address(
    endpoints: tuple[Endpoint, ...], seen: set[SocketAddress | HostAddress]
) -> tuple[Endpoint, ...]:
    """Those whose address is not in `seen`, which gains them; the same tuple where that is all of them."""
    addresses = {endpoint.address for endpoint in endpoints}
    if len(addresses) == len(endpoints) and seen.isdisjoint(addresses):
        seen |= addresses
        return endpoints
    kept = []
    for endpoint in endpoints:
        if endpoint.address not in seen:
            seen.add(endpoint.address)
            kept.append(endpoint)
    return tuple(kept)


def _report(unit: ClusterUnit, feature: str, consequence: str) -> Report:
    return Report(
        kind="cluster", name=unit.name, feature=feature, path="", effect=Effect.REFUSED, consequence=consequence
    )
