"""Route configurations, as far as deciding at connect time asks: who is matched at all, and sent where."""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.model.limitation import Limitation

__all__ = ["ClusterAction", "OtherAction", "Route", "RouteConfiguration", "VirtualHost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAction:
    """Send to one cluster, changing nothing of the exchange."""

    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherAction:
    """An action or a feature that a connection-time decision cannot express, by its proto field name."""

    kind: str
    clusters: tuple[str, ...] = ()
    """The clusters it may lead to, for reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    name: str = ""
    matches_all: bool
    """The match accepts every request: prefix "/" or "" and no further condition."""
    action: ClusterAction | OtherAction
    limitations: tuple[Limitation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    limitations: tuple[Limitation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfiguration:
    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    limitations: tuple[Limitation, ...] = ()
