"""Route configurations: which virtual host and route a request takes, and what becomes of it there.

Actions say what a route does; everything else that it asks for is carried as a named feature, whose meaning is one
row of kmesh.model.route_features. An action is a feature too.
Source: envoy/config/route/v3/route.proto and route_components.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kmesh.model.limitation import Limitation
from kmesh.model.match import ANY_REQUEST, RouteMatch
from kmesh.model.route_features import classify
from kmesh.model.weighted_cluster import WeightedCluster

__all__ = ["Action", "ClusterAction", "ClusterHeader", "DirectResponse", "Feature", "OtherAction", "Redirect"]
__all__ += ["RegexRewrite", "Route", "RouteConfiguration", "VirtualHost", "WeightedClusters"]
__all__ += ["limitations_of_features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Something that the configuration asks for."""

    name: str
    """As in kmesh.model.route_features."""
    path: str
    """Proto path inside the resource; for a virtual host and its routes, inside the virtual host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAction:
    """Send to one cluster."""

    feature: ClassVar[str] = "RouteAction.cluster"
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedClusters:
    """Send to one of several clusters, drawn for each request. At least one weight is not 0."""

    feature: ClassVar[str] = "RouteAction.weighted_clusters"
    clusters: tuple[WeightedCluster, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterHeader:
    """Send to the cluster that a request header names."""

    feature: ClassVar[str] = "RouteAction.cluster_header"
    header: str
    """Lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    pattern: str
    substitution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answer with another location; empty parts are those of the request."""

    feature: ClassVar[str] = "Route.redirect"
    status: int = 301
    scheme: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""
    """Replaces the whole path, and the query when it has one of its own."""
    prefix_rewrite: str = ""
    """Replaces what the route's path matched; all of it, for a path or regular expression."""
    regex_rewrite: RegexRewrite | None = None
    strips_query: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponse:
    feature: ClassVar[str] = "Route.direct_response"
    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherAction:
    """An action that is carried by name only."""

    feature: str


Action = ClusterAction | WeightedClusters | ClusterHeader | Redirect | DirectResponse | OtherAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    name: str = ""
    match: RouteMatch = ANY_REQUEST
    action: Action
    features: tuple[Feature, ...] = ()

    @property
    def matches_all(self) -> bool:
        """The match accepts every request."""
        return self.match.matches_all

    @property
    def limitations(self) -> tuple[Limitation, ...]:
        """What of its features is not done for connections decided at connect."""
        return limitations_of_features(self.features)


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class VirtualHost:
    name: str
    domains: tuple[str, ...]
    """As configured; compared without regard to case."""
    routes: tuple[Route, ...]
    """The first that matches is taken."""
    features: tuple[Feature, ...] = ()

    @property
    def limitations(self) -> tuple[Limitation, ...]:
        """Of its own features, its routes' apart; so for a route configuration."""
        return limitations_of_features(self.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfiguration:
    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    ignores_port: bool = False
    """ignore_port_in_host_matching: domains are compared with Host without its port."""
    ignores_path_parameters: bool = False
    """ignore_path_parameters_in_path_matching: paths are compared without what follows a semicolon in
    each of their segments."""
    features: tuple[Feature, ...] = ()

    @property
    def limitations(self) -> tuple[Limitation, ...]:
        return limitations_of_features(self.features)


def limitations_of_features(features: tuple[Feature, ...]) -> tuple[Limitation, ...]:
    """What of `features` is not done for connections decided at connect."""
    rows = ((feature, classify(feature.name).at_connect) for feature in features)
    return tuple(Limitation(feature=f.name, path=f.path, effect=effect) for f, effect in rows if effect)
