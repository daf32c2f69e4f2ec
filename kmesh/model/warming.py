"""Warming: a stream of accepted resources becomes closed snapshots, each safe to switch to.

    resource accepted ──► latest ──(all that it needs is there)──► active, in the snapshot
                            └─ until then what was active before stays, if there was any

What needs what:
- An EDS cluster needs its assignment: arrived, or known not to exist (then it has no endpoints). A new version
  that asks for another assignment waits for that one, while the old version goes on with its own.
- A DNS cluster needs the end of its first resolution, whatever came of it. STATIC and ORIGINAL_DST need nothing.
- A listener needs each of its route configurations to be active, or known not to exist.
- A listener, or a route configuration, needs the clusters it names to be active. A cluster that is not in CDS at
  all is not waited for: its connections are refused, until it comes.

Removal takes effect at once, as in Envoy: to break only after making is the server's order to keep. What is held
back here is ours, though: a removed cluster stays while a listener or route configuration whose successor is held
back leads to it.

No I/O and no clock. Each change costs what it touches; a snapshot copies only the mappings that changed.
Source: xDS protocol, "Resource warming" and "Eventual consistency considerations".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from kmesh.model.cluster import Cluster, Discovery
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.layer import Layer
from kmesh.model.listener import Listener
from kmesh.model.references import clusters_of_listener, clusters_of_routes, route_configs_of
from kmesh.model.relation import Relation
from kmesh.model.route import RouteConfiguration
from kmesh.model.snapshot import Snapshot

__all__ = ["Assembler"]


class _Kind(StrEnum):
    """Values are for people."""

    LISTENER = "listener"
    ROUTE_CONFIG = "route configuration"
    CLUSTER = "cluster"
    ASSIGNMENT = "assignment"
    RESOLUTION = "resolution"
    """Of a DNS cluster's hosts."""


class _Resource(NamedTuple):
    kind: _Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


_NONE: frozenset[_Resource] = frozenset()


class Assembler:
    """Takes what changed in each type, in any order, and offers the newest closed snapshot.

    After each update, subscribe to what is wanted then: names that are not wanted are ignored and forgotten at once,
    and when wanted again they must be given again.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, Listener] = {}
        self._route_configs: dict[str, RouteConfiguration | None] = {}
        """None: does not exist."""
        self._clusters: dict[str, Cluster] = {}
        self._assignments: dict[str, ClusterLoadAssignment] = {}
        """By EDS name; one without endpoints stands for what does not exist."""
        self._resolved: dict[str, ClusterLoadAssignment] = {}
        """By the name of the DNS cluster."""
        self._active_listeners: Layer[Listener] = Layer()
        self._active_route_configs: Layer[RouteConfiguration] = Layer()
        self._active_clusters: Layer[Cluster] = Layer()
        self._active_assignments: Layer[ClusterLoadAssignment] = Layer()
        self._dns: Layer[Cluster] = Layer()
        self._rds_users: Relation[str] = Relation()
        """Route configurations and the listeners, latest or active, that name them."""
        self._eds_users: Relation[str] = Relation()
        """Assignments and the clusters, latest or active, that name them."""
        self._waits: Relation[_Resource] = Relation()
        """What is waited for, and by which held back resources."""
        self._removed_clusters: set[str] = set()
        """Not in CDS any longer, and still active."""
        self._snapshot = Snapshot()

    # What is wanted now

    @property
    def wanted_route_configs(self) -> frozenset[str]:
        """Names to subscribe to for RDS. The same object until it changes; so is `wanted_assignments`."""
        return self._rds_users.names

    @property
    def wanted_assignments(self) -> frozenset[str]:
        """Names to subscribe to for EDS."""
        return self._eds_users.names

    @property
    def dns_clusters(self) -> Mapping[str, Cluster]:
        """Clusters whose host names are to be resolved. The same object until it changes."""
        return self._dns.view()

    # What changed

    def update_listeners(self, changed: Mapping[str, Listener], removed: Collection[str] = ()) -> None:
        self._listeners.update(changed)
        for name in removed:
            self._listeners.pop(name, None)
        for name in (*changed, *removed):
            self._index_listener(name)
        for name in (*changed, *removed):
            self._settle_listener(name)
        self._drop_removed_clusters()

    def update_route_configs(self, changed: Mapping[str, RouteConfiguration], removed: Collection[str] = ()) -> None:
        """`removed` ones do not exist, as far as the server says or the wait for them told."""
        for name, latest in {**changed, **dict.fromkeys(removed)}.items():
            if name in self._rds_users:
                self._route_configs[name] = latest
                self._settle_route_config(name)
        self._drop_removed_clusters()

    def update_clusters(self, changed: Mapping[str, Cluster], removed: Collection[str] = ()) -> None:
        self._clusters.update(changed)
        for name in removed:
            self._clusters.pop(name, None)
        for name in (*changed, *removed):
            self._index_cluster(name)
        self._settle_clusters((*changed, *removed))
        self._drop_removed_clusters()

    def update_assignments(self, changed: Mapping[str, ClusterLoadAssignment], removed: Collection[str] = ()) -> None:
        """By EDS name. `removed` ones do not exist, as far as the server says or the wait for them told."""
        missing = {name: ClusterLoadAssignment(name=name) for name in removed if self._has_endpoints(name)}
        for name, assignment in {**changed, **missing}.items():
            if name in self._eds_users:
                self._assignments[name] = assignment
                self._settle_clusters(self._eds_users.holders_of(name))
        self._drop_removed_clusters()

    def give_up(self, *, route_configs: Collection[str] = (), assignments: Collection[str] = ()) -> None:
        """Wait no longer for names whose every version so far was invalid: they count as not existing.

        Those of which a good version is held are left as they are.
        """
        self.update_route_configs({}, [name for name in route_configs if name not in self._route_configs])
        self.update_assignments({}, [name for name in assignments if name not in self._assignments])

    def update_resolved(self, changed: Mapping[str, ClusterLoadAssignment]) -> None:
        """Finished resolutions of `dns_clusters`, by cluster name; after a failed one there are no endpoints."""
        for name, assignment in changed.items():
            if name in self._dns:
                self._resolved[name] = assignment
                self._settle_cluster(name)
        self._drop_removed_clusters()

    def snapshot(self) -> Snapshot:
        """The newest closed snapshot; the same object until something in it changes."""
        before = self._snapshot
        after = Snapshot(
            listeners=self._active_listeners.view(),
            route_configs=self._active_route_configs.view(),
            clusters=self._active_clusters.view(),
            assignments=self._active_assignments.view(),
            waiting=self._describe_waiting(),
        )
        mappings = ("listeners", "route_configs", "clusters", "assignments")
        is_same = all(getattr(before, name) is getattr(after, name) for name in mappings)
        if not is_same or before.waiting != after.waiting:
            self._snapshot = after
        return self._snapshot

    # Who names what

    def _index_listener(self, name: str) -> None:
        versions = (self._listeners.get(name), self._active_listeners.get(name))
        names = frozenset[str]().union(*(route_configs_of(listener) for listener in versions if listener))
        for dropped in self._rds_users.put(name, names):
            self._route_configs.pop(dropped, None)
            self._active_route_configs.drop(dropped)
            self._waits.put(_Resource(_Kind.ROUTE_CONFIG, dropped), _NONE)

    def _index_cluster(self, name: str) -> None:
        latest, active = self._clusters.get(name), self._active_clusters.get(name)
        names = frozenset(c.eds_service_name for c in (latest, active) if c and c.discovery is Discovery.EDS)
        for dropped in self._eds_users.put(name, names):
            self._assignments.pop(dropped, None)
        dns = next((cluster for cluster in (latest, active) if cluster and _is_dns(cluster)), None)
        if dns is not None:
            self._dns.set(name, dns)
        else:
            self._dns.drop(name)
            self._resolved.pop(name, None)

    # From latest to active

    def _settle_clusters(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._settle_cluster(name)

    def _settle_cluster(self, name: str) -> None:
        """Switch to the latest version if it is warm, and give the active one its newest assignment."""
        latest = self._clusters.get(name)
        if latest is None:
            self._removed_clusters.add(name)
            self._refresh_assignment(name)
            self._switched(_Resource(_Kind.CLUSTER, name))
            return
        self._removed_clusters.discard(name)
        need = self._need_of(latest)
        if need is not None:
            self._refresh_assignment(name)
            self._waits.put(_Resource(_Kind.CLUSTER, name), frozenset({need}))
            return
        self._active_clusters.set(name, latest)
        self._index_cluster(name)
        self._refresh_assignment(name)
        self._switched(_Resource(_Kind.CLUSTER, name))

    def _has_endpoints(self, eds_name: str) -> bool:
        """Or may have: nothing is known of it."""
        return eds_name not in self._assignments or bool(self._assignments[eds_name].localities)

    def _need_of(self, cluster: Cluster) -> _Resource | None:
        if cluster.discovery is Discovery.EDS and cluster.eds_service_name not in self._assignments:
            return _Resource(_Kind.ASSIGNMENT, cluster.eds_service_name)
        if _is_dns(cluster) and cluster.name not in self._resolved:
            return _Resource(_Kind.RESOLUTION, cluster.name)
        return None

    def _refresh_assignment(self, name: str) -> None:
        active = self._active_clusters.get(name)
        assignment = None if active is None else self._assignment_of(active)
        if assignment is None:
            self._active_assignments.drop(name)
        else:
            self._active_assignments.set(name, assignment)

    def _assignment_of(self, cluster: Cluster) -> ClusterLoadAssignment | None:
        if cluster.discovery is Discovery.EDS:
            return self._assignments[cluster.eds_service_name]
        if _is_dns(cluster):
            return self._resolved[cluster.name]
        return cluster.assignment

    def _settle_route_config(self, name: str) -> None:
        if name not in self._route_configs:
            return
        latest = self._route_configs[name]
        this = _Resource(_Kind.ROUTE_CONFIG, name)
        if latest is None:
            self._active_route_configs.drop(name)
        elif self._is_ready(this, self._warming(clusters_of_routes(latest))):
            self._active_route_configs.set(name, latest)
        else:
            return
        self._switched(this)

    def _settle_listener(self, name: str) -> None:
        latest = self._listeners.get(name)
        this = _Resource(_Kind.LISTENER, name)
        if latest is None:
            self._active_listeners.drop(name)
        elif self._is_ready(this, self._warming(clusters_of_listener(latest)) | self._unrouted(latest)):
            self._active_listeners.set(name, latest)
        else:
            return
        self._index_listener(name)
        self._switched(this)

    def _warming(self, clusters: Iterable[str]) -> frozenset[_Resource]:
        """Those that are in CDS, and were never active."""
        return frozenset(
            _Resource(_Kind.CLUSTER, name)
            for name in clusters
            if name in self._clusters and name not in self._active_clusters
        )

    def _unrouted(self, listener: Listener) -> frozenset[_Resource]:
        """Its route configurations that may still come, or are held back themselves."""
        return frozenset(
            _Resource(_Kind.ROUTE_CONFIG, name)
            for name in route_configs_of(listener)
            if name not in self._active_route_configs and not self._is_missing(name)
        )

    def _is_missing(self, route_config: str) -> bool:
        return route_config in self._route_configs and self._route_configs[route_config] is None

    def _is_ready(self, resource: _Resource, needs: frozenset[_Resource]) -> bool:
        """Notes what a resource that is not ready waits for."""
        self._waits.put(resource, needs)
        return not needs

    def _switched(self, resource: _Resource) -> None:
        """`resource` is not waited for any longer: look again at what did."""
        self._waits.put(resource, _NONE)
        for waiter in sorted(self._waits.holders_of(resource)):
            if waiter.kind is _Kind.ROUTE_CONFIG:
                self._settle_route_config(waiter.name)
            else:
                self._settle_listener(waiter.name)

    # Removed clusters

    def _drop_removed_clusters(self) -> None:
        if not self._removed_clusters:
            return
        kept = self._removed_clusters & self._clusters_of_held_back()
        for name in self._removed_clusters - kept:
            self._active_clusters.drop(name)
            self._active_assignments.drop(name)
            self._index_cluster(name)
        self._removed_clusters = kept

    def _clusters_of_held_back(self) -> frozenset[str]:
        """What the active versions of held back listeners and route configurations lead to."""
        names: set[str] = set()
        for kind, name in self._waits.holders:
            if kind is _Kind.LISTENER and (listener := self._active_listeners.get(name)):
                names |= clusters_of_listener(listener)
                names.update(*map(self._clusters_of_active_routes, route_configs_of(listener)))
            elif kind is _Kind.ROUTE_CONFIG:
                names |= self._clusters_of_active_routes(name)
        return frozenset(names)

    def _clusters_of_active_routes(self, name: str) -> frozenset[str]:
        route_config = self._active_route_configs.get(name)
        return clusters_of_routes(route_config) if route_config else frozenset()

    def _describe_waiting(self) -> dict[str, tuple[str, ...]]:
        waiting = sorted(self._waits.holders.items())
        return {str(holder): tuple(map(str, sorted(needs))) for holder, needs in waiting}


def _is_dns(cluster: Cluster) -> bool:
    return cluster.discovery in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)
