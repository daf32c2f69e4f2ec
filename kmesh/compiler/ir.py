"""The intermediate form: units (listeners, clusters), each a choice tree that passes rewrite from model to record.

Rules: immutable; no records, no ids. A node refers to model objects and never copies endpoints, because a mesh holds
hundreds of thousands of them. What a choice may be narrows from pass to pass (kmesh.compiler.verify):

    listener:  Chains -> OneOf(Filtered) -> OneOf(_Way) -> _Way, which is Weighted | ToCluster | ToRoutes | Refuse
    cluster:   Unresolved -> Members -> Hosts -> Endpoints -> Spread | Rotate, under Weighted; or Refuse | Pass
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from kmesh.compiler.report import Report
from kmesh.model.address import Protocol
from kmesh.model.cluster import Cluster
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, LocalityEndpoints
from kmesh.model.listener import Detection, FilterChain, Http10, Normalization
from kmesh.model.route import RouteConfiguration
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.records.constants import Reason

__all__ = ["Availability", "Chains", "Choice", "ClusterUnit", "Endpoints", "Filtered", "Frontend", "Hosts", "Http"]
__all__ += ["ListenerUnit", "Members", "OneOf", "Outcome", "Pass", "Program", "Refuse", "Rotate", "Routing", "Share"]
__all__ += ["Spread", "ToCluster", "ToRoutes", "Undetected", "Unresolved", "Weighted", "leaves", "weigh"]


class Availability(Enum):
    """Which endpoints of a priority take a share of the load."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    ALL = "all"
    """Panic: so few are usable that Envoy's rule is to use every one."""


@dataclass(frozen=True, slots=True)
class Refuse:
    reason: Reason


@dataclass(frozen=True, slots=True)
class Pass:
    """Connect to the address that was asked for."""


@dataclass(frozen=True, slots=True)
class ToCluster:
    """Whatever the named cluster chooses; each name so used has a unit, even where no such cluster exists."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undetected:
    """What becomes of connections to routes that do not begin with HTTP/1.1: bytes are copied. No cluster: closed."""

    clusters: tuple[WeightedCluster, ...]
    http2: tuple[WeightedCluster, ...]
    """For those that begin with HTTP/2."""
    detection: Detection
    takes_http10: bool = False
    """Those that begin with HTTP/1.0 are requests like HTTP/1.1's; else they go to `clusters`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """A route configuration under the options of a connection manager: what tells where a request goes."""

    name: str
    """Of the unit that it compiles to (kmesh.compiler.routes)."""
    config: RouteConfiguration
    normalization: Normalization
    http10: Http10 | None = None
    """None where HTTP/1.0 is not served."""
    undetected: Undetected | None = None
    """None where every connection is taken for HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class ToRoutes:
    """Each request goes its own way."""

    routing: Routing


@dataclass(frozen=True, slots=True)
class Share:
    weight: int
    """At least 1, of any size."""
    choice: Choice


@dataclass(frozen=True, slots=True)
class Weighted:
    """Random, each share with probability weight / sum of weights. Two shares or more: see `weigh`."""

    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """The filter chains of a listener, none of them selected yet."""

    chains: tuple[FilterChain, ...]
    default: FilterChain | None
    detection: Detection | None = None


@dataclass(frozen=True, slots=True)
class Filtered:
    """What the filters of one chain do."""

    chain: FilterChain


@dataclass(frozen=True, slots=True)
class Outcome:
    chain: str
    """Its name, for reports."""
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """A chain that HTTP/1.1 gets, known by its first bytes."""

    chain: FilterChain
    takes_http2: bool
    """Without TLS, by prior knowledge."""
    takes_http10: bool = False
    detection: Detection


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One of several outcomes; which, only the connection's first bytes or its source can tell."""

    outcomes: tuple[Outcome, ...]
    undecided: tuple[str, ...]
    """The fields of FilterChainMatch that tell them apart."""
    http: Http | None = None
    """Where they are two, and only HTTP in plaintext gets the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """A cluster as the snapshot has it: None where it has none."""

    cluster: Cluster | None
    assignment: ClusterLoadAssignment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The endpoints of a cluster at every priority."""

    cluster: Cluster
    assignment: ClusterLoadAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The endpoints of one priority that have this availability, by locality."""

    cluster: Cluster
    priority: int
    availability: Availability
    overprovisioning_factor: int
    localities: tuple[LocalityEndpoints, ...]
    """Each locality once, with all its endpoints: which are available is still to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Endpoints among which the cluster's policy chooses; at least one."""

    cluster: Cluster
    group: str
    """Names this group within its cluster for as long as it exists: "0/healthy", "0/healthy/r/z/s"."""
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Random over endpoints, by their weights or evenly."""

    endpoints: tuple[Endpoint, ...]
    is_weighted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """Endpoints in turn: in each round of sum(weights) / gcd(weights) turns, each has weight / gcd of them."""

    group: str
    endpoints: tuple[Endpoint, ...]


_OfListener = Chains | OneOf | Filtered | ToCluster | ToRoutes
_OfCluster = Unresolved | Members | Hosts | Endpoints | Spread | Rotate | Pass
Choice = _OfListener | _OfCluster | Weighted | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """A destination that is captured. A wildcard address is every address that no other frontend names; port 0 with
    a wildcard address is every port likewise."""

    addr16: bytes
    port: int
    protocol: Protocol
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerUnit:
    """A listener, closed over what its lowering reads."""

    name: str
    frontends: tuple[Frontend, ...]
    route_configs: Mapping[str, RouteConfiguration] = field(default_factory=dict)
    """Those its connection managers name and the snapshot has."""
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    """Those whose own settings bear on it, where the snapshot has them."""
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterUnit:
    name: str
    choice: Choice
    has_ipv6_only: bool = False
    """Some endpoint in use has no IPv4 address (set by passes.find_families)."""
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Units to compile. No unit reads another, so any part of a program compiles alone."""

    listeners: tuple[ListenerUnit, ...] = ()
    clusters: tuple[ClusterUnit, ...] = ()


def weigh(shares: tuple[Share, ...]) -> Choice:
    """A Weighted of the shares that weigh anything, or the only one's choice. At least one must weigh something."""
    heavy = tuple(share for share in shares if share.weight)
    assert heavy, "nothing to choose from"
    return heavy[0].choice if len(heavy) == 1 else Weighted(heavy)


def leaves(choice: Choice) -> Iterator[Choice]:
    """Every choice under (and not itself) a Weighted or a OneOf, left to right."""
    match choice:
        case Weighted(shares):
            for share in shares:
                yield from leaves(share.choice)
        case OneOf(outcomes=outcomes):
            for outcome in outcomes:
                yield from leaves(outcome.choice)
        case _:
            yield choice
