"""The closed snapshot: what the compiler may serve now, with nothing dangling that is still on its way.

Source: xDS protocol, "Resource warming"; gRFC A74 (one atomic view of LDS, RDS, CDS and EDS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kmesh.model.cluster import Cluster
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.listener import Listener
from kmesh.model.route import RouteConfiguration

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An immutable view; unchanged resources are the same objects from one snapshot to the next."""

    listeners: Mapping[str, Listener] = field(default_factory=dict)
    route_configs: Mapping[str, RouteConfiguration] = field(default_factory=dict)
    """By RDS name; inline route configurations stay inside their listener."""
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    assignments: Mapping[str, ClusterLoadAssignment] = field(default_factory=dict)
    """By cluster name, every endpoint an IP address: EDS, STATIC and resolved DNS alike."""
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Resources held back by warming ("listener a", "cluster b") and what each still waits for."""
