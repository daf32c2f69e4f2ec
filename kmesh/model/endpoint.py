"""Endpoints: the ClusterLoadAssignment of EDS, and of STATIC and DNS clusters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.limitation import Limitation

__all__ = ["ClusterLoadAssignment", "DropOverload", "Endpoint", "Health", "Locality", "LocalityEndpoints"]


class Health(Enum):
    """envoy.config.core.v3.HealthStatus, folded to what balancing asks.

    UNKNOWN and HEALTHY are HEALTHY; UNHEALTHY and TIMEOUT are UNHEALTHY.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    """Like UNHEALTHY, but not counted where the share of healthy endpoints is: one that drains takes no load away
    from the others of its priority and locality (Envoy's excluded endpoints)."""

    __hash__ = object.__hash__  # members are singletons, and Enum's own hash is Python code that runs per endpoint


class Endpoint(NamedTuple):
    """One LbEndpoint. A tuple, since a mesh holds hundreds of thousands of them: a third of the time to make one."""

    address: SocketAddress | HostAddress
    weight: int = 1
    """load_balancing_weight, 1 to 2**32-1; 1 when absent, as Envoy treats it."""
    health: Health = Health.HEALTHY
    additional: tuple[SocketAddress, ...] = ()
    """Other addresses of the same host (dual stack)."""
    transport_match: tuple[tuple[str, str], ...] = ()
    """filter_metadata "envoy.transport_socket_match", string values only, sorted by key."""


@dataclass(frozen=True, slots=True)
class Locality:
    region: str = ""
    zone: str = ""
    sub_zone: str = ""

    def __str__(self) -> str:
        return "/".join((self.region, self.zone, self.sub_zone)).rstrip("/") or "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityEndpoints:
    """One LocalityLbEndpoints: a group of endpoints of one locality at one priority."""

    locality: Locality
    endpoints: tuple[Endpoint, ...]
    priority: int = 0
    """0 is used first."""
    weight: int | None = None
    """load_balancing_weight of the locality; None when absent. Read only by clusters with
    locality_weighted_lb_config, where an absent weight takes no load (Envoy's rule)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOverload:
    """A share of connections to refuse, in parts per million."""

    category: str
    per_million: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLoadAssignment:
    name: str
    localities: tuple[LocalityEndpoints, ...] = ()
    overprovisioning_factor: int = 140
    """Percent: a priority spills over once healthy share times this falls under 100 %."""
    weighted_priority_health: bool = False
    """Health shares count endpoint weights instead of endpoints."""
    drops: tuple[DropOverload, ...] = ()
    limitations: tuple[Limitation, ...] = ()
    """Of an EDS resource. Of inline endpoints they are among their cluster's."""
