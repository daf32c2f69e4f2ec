"""The snapshot that a bridge would serve from a directory of configuration files, without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmesh.errors import ResourceInvalid
from kmesh.model.address import HostAddress
from kmesh.model.cluster import Cluster
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.snapshot import Snapshot
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import cluster, endpoint, listener, route
from kmesh.xds.server.catalog import Catalog
from kmesh.xds.server.config_dir import ConfigDir

__all__ = ["read_config_snapshot"]


def read_config_snapshot(directory: Path) -> tuple[Snapshot, tuple[ResourceInvalid, ...]]:
    """And the resources that a bridge would refuse, which are left out. Endpoints behind DNS names are not resolved.

    Raises: ConfigError when the files cannot be read.
    """
    catalog = ConfigDir(directory).read()
    refused: list[ResourceInvalid] = []
    clusters: dict[str, Cluster] = _decode_all(catalog, cluster.TYPE, refused)
    assigned: dict[str, ClusterLoadAssignment] = _decode_all(catalog, endpoint.TYPE, refused)
    found = {name: c.assignment or assigned.get(c.eds_service_name) for name, c in clusters.items()}
    snapshot = Snapshot(
        listeners=_decode_all(catalog, listener.TYPE, refused),
        route_configs=_decode_all(catalog, route.TYPE, refused),
        clusters=clusters,
        assignments={name: a for name, a in found.items() if a and not _has_names(a)},
    )
    return snapshot, tuple(refused)


def _decode_all(catalog: Catalog, kind: ResourceType, refused: list[ResourceInvalid]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, resource in sorted(catalog[kind.type_url].by_name.items()):
        try:
            out[name] = kind.decode(resource.packed.value)[1]
        except ResourceInvalid as error:
            refused.append(error)
    return out


def _has_names(assignment: ClusterLoadAssignment) -> bool:
    """Whether an address is still a host name."""
    endpoints = (e for locality in assignment.localities for e in locality.endpoints)
    return any(isinstance(e.address, HostAddress) for e in endpoints)
