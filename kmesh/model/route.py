"""Route configurations: which virtual host and route a request takes, and what becomes of it there.

Actions say what a route does; everything else that it asks for is carried as a named feature, whose meaning is one
row of kmesh.model.route_features. An action is a feature too.
Source: envoy/config/route/v3/route.proto and route_components.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from kmesh.model.edits import NO_EDITS, NO_REWRITE, HeaderEdits, RegexRewrite, Rewrite
from kmesh.model.limitation import Limitation
from kmesh.model.match import ANY_REQUEST, RouteMatch
from kmesh.model.route_features import classify
from kmesh.model.weighted_cluster import WeightedCluster

__all__ = ["DEFAULT_TIMEOUT_S", "Action", "ClusterAction", "ClusterHeader", "DirectResponse", "Feature"]
__all__ += ["OtherAction", "Redirect", "RegexRewrite", "RequireTls", "Route", "RouteConfiguration", "VirtualHost"]
__all__ += ["WeightedClusters", "limitations_of_features"]

DEFAULT_TIMEOUT_S = 15.0
"""RouteAction.timeout where the route has none."""


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
    """Timeouts are in seconds; None is no limit, or for `idle_timeout_s` the connection manager's."""

    name: str = ""
    match: RouteMatch = ANY_REQUEST
    action: Action
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    """From the end of the request to the end of its answer."""
    idle_timeout_s: float | None = None
    """Between one byte of the exchange and the next."""
    connect_retries: int = 0
    """How often another endpoint is tried when one cannot be reached."""
    no_cluster_status: int = 503
    """cluster_not_found_response_code."""
    rewrite: Rewrite = NO_REWRITE
    edits: HeaderEdits = NO_EDITS
    features: tuple[Feature, ...] = ()

    @property
    def matches_all(self) -> bool:
        """The match accepts every request."""
        return self.match.matches_all

    @property
    def limitations(self) -> tuple[Limitation, ...]:
        """What of its features is not done for connections decided at connect."""
        return limitations_of_features(self.features)


class RequireTls(Enum):
    """VirtualHost.TlsRequirementType: which requests in plaintext are sent to the same place under https."""

    NONE = "NONE"
    EXTERNAL_ONLY = "EXTERNAL_ONLY"
    """Those that come from outside, as Envoy tells it by the peer's address and x-forwarded-for."""
    ALL = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class VirtualHost:
    name: str
    domains: tuple[str, ...]
    """As configured; compared without regard to case."""
    routes: tuple[Route, ...]
    """The first that matches is taken."""
    require_tls: RequireTls = RequireTls.NONE
    edits: HeaderEdits = NO_EDITS
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
    most_specific_edits_win: bool = False
    """most_specific_header_mutations_wins: the configuration's edits are made first, the route's last; else the
    other way round."""
    edits: HeaderEdits = NO_EDITS
    features: tuple[Feature, ...] = ()

    @property
    def limitations(self) -> tuple[Limitation, ...]:
        return limitations_of_features(self.features)


def limitations_of_features(features: tuple[Feature, ...]) -> tuple[Limitation, ...]:
    """What of `features` is not done for connections decided at connect."""
    rows = ((feature, classify(feature.name).at_connect) for feature in features)
    return tuple(Limitation(feature=f.name, path=f.path, effect=effect) for f, effect in rows if effect)
