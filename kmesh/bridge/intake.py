"""What arrives, and which snapshot to serve of it: the last good one from disk until the control plane's is whole.

    saved state ──► restored ─┐
                              ├─► snapshot to serve
    xDS updates ──► live ─────┘   (live from the moment it is complete)

Live is complete once LDS and CDS were answered on this run and nothing in them is held back by warming. Until then a
restarted bridge has seen only part of the configuration, and serving that part would take services away.

No I/O: updates, resolutions and time come from outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kmesh.bridge.state import SavedState
from kmesh.errors import ResourceInvalid
from kmesh.model.cluster import Cluster
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.snapshot import Snapshot
from kmesh.model.warming import Assembler
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import cluster, endpoint, listener, route
from kmesh.xds.update import Update

__all__ = ["Intake"]

_log = logging.getLogger(__name__)

_LDS, _RDS, _CDS, _EDS = (kind.TYPE.type_url for kind in (listener, route, cluster, endpoint))
_FULL_STATE = frozenset((_LDS, _CDS))


class Intake:
    """Feed `take` and `take_resolved`; then see `wanted` and `snapshot`."""

    def __init__(self, saved: SavedState | None) -> None:
        self._live = Assembler()
        self._restored = _restore(saved) if saved and saved.resources else None
        self._resolved: dict[str, ClusterLoadAssignment] = {}
        """Of DNS clusters by name, while the saved configuration is served."""
        self._answered: set[str] = set()
        self._is_complete = False

    @property
    def serves_last_good(self) -> bool:
        """Whether `snapshot` is the one from disk."""
        return self._restored is not None

    @property
    def is_complete(self) -> bool:
        """Whether the control plane's configuration has arrived whole on this run; True for ever after."""
        return self._is_complete

    @property
    def wanted(self) -> dict[str, frozenset[str]]:
        """Names to subscribe to, by type URL."""
        return {_RDS: self._live.wanted_route_configs, _EDS: self._live.wanted_assignments}

    @property
    def dns_clusters(self) -> Mapping[str, Cluster]:
        """Clusters to keep resolved, of both sources; the live one's where both have the name."""
        if self._restored is None:
            return self._live.dns_clusters
        return {**self._restored.dns_clusters, **self._live.dns_clusters}

    def take(self, update: Update) -> None:
        """Enter what an update changed."""
        changed: Any = update.changed  # of the type that its decoder gives
        _enter(self._live, update.type_url, changed, update.removed)
        if update.type_url == _CDS:
            self._tell_resolved(changed)
        self._give_up_invalid(update.type_url, update.errors)
        self._answered.add(update.type_url)
        self._look_whether_complete()

    def take_resolved(self, name: str, assignment: ClusterLoadAssignment) -> None:
        """Enter the finished resolution of a DNS cluster."""
        self._live.update_resolved({name: assignment})
        if self._restored is not None:
            self._restored.update_resolved({name: assignment})
            self._resolved[name] = assignment
        self._look_whether_complete()

    def snapshot(self) -> Snapshot | None:
        """The one to serve; None while there is neither a saved one nor a complete one from the control plane."""
        if self._is_complete:
            return self._live.snapshot()
        return self._restored.snapshot() if self._restored else None

    def _tell_resolved(self, names: Collection[str]) -> None:
        """Tell live of what was resolved for the saved configuration, since it will not be resolved again. Where a
        name leads elsewhere now, its last good endpoints stay until that is resolved, as with any update."""
        self._live.update_resolved({name: self._resolved[name] for name in names if name in self._resolved})

    def _give_up_invalid(self, type_url: str, errors: Iterable[ResourceInvalid]) -> None:
        names = {error.name for error in errors if error.name}
        if type_url == _RDS:
            self._live.give_up(route_configs=names)
        elif type_url == _EDS:
            self._live.give_up(assignments=names)

    def _look_whether_complete(self) -> None:
        if self._is_complete or not self._answered >= _FULL_STATE or self._live.snapshot().waiting:
            return
        self._is_complete = True
        if self._restored is not None:
            self._restored = None
            self._resolved.clear()
            _log.info("control_plane_took_over", extra={"was": "last good snapshot from disk"})


def _enter(assembler: Assembler, type_url: str, changed: Any, removed: Collection[str]) -> None:
    enter: dict[str, Callable[[Any, Collection[str]], None]] = {
        _LDS: assembler.update_listeners,
        _RDS: assembler.update_route_configs,
        _CDS: assembler.update_clusters,
        _EDS: assembler.update_assignments,
    }
    enter[type_url](changed, removed)


def _restore(saved: SavedState) -> Assembler:
    """An assembler that waits for nothing but DNS: what was not saved does not exist."""
    assembler = Assembler()
    for kind in (cluster.TYPE, listener.TYPE, endpoint.TYPE, route.TYPE):
        rows = saved.resources.get(kind.type_url, {})
        _enter(assembler, kind.type_url, dict(_decode(kind, rows)), ())
    assembler.give_up(route_configs=assembler.wanted_route_configs, assignments=assembler.wanted_assignments)
    return assembler


def _decode(kind: ResourceType, rows: Mapping[str, tuple[str, bytes]]) -> Iterable[tuple[str, object]]:
    """What is valid; a resource that this version of the bridge refuses is left out and reported."""
    for name, (_, raw) in rows.items():
        try:
            yield kind.decode(raw)
        except ResourceInvalid as error:
            _log.warning("saved_resource_refused", extra={"type": kind.name, "resource": name, "reason": str(error)})
