"""Clusters: how a named group of endpoints is found and balanced."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.limitation import Limitation

__all__ = ["DEFAULT_CONNECT_TIMEOUT_S", "Cluster", "Discovery", "DnsFamily", "DnsOptions", "LbPolicy"]
__all__ += ["TransportMatch", "UpstreamHttp"]

DEFAULT_CONNECT_TIMEOUT_S = 5.0
"""Cluster.connect_timeout where the cluster has none."""


class Discovery(Enum):
    """Cluster.DiscoveryType."""

    STATIC = "STATIC"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    EDS = "EDS"
    ORIGINAL_DST = "ORIGINAL_DST"


class LbPolicy(Enum):
    """Cluster.LbPolicy, or the load_balancing_policy extension of the same meaning."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RANDOM = "RANDOM"
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"
    CLUSTER_PROVIDED = "CLUSTER_PROVIDED"


class UpstreamHttp(Enum):
    """Which HTTP version Envoy would speak to the endpoints, whatever the client speaks."""

    HTTP1 = "HTTP1"
    HTTP2 = "HTTP2"
    DOWNSTREAM = "DOWNSTREAM"
    """The version the client used (use_downstream_protocol_config)."""


class DnsFamily(Enum):
    """Cluster.DnsLookupFamily."""

    AUTO = "AUTO"
    V4_ONLY = "V4_ONLY"
    V6_ONLY = "V6_ONLY"
    V4_PREFERRED = "V4_PREFERRED"
    ALL = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsOptions:
    refresh_rate_s: float = 5.0
    respect_ttl: bool = False
    """Refresh when the records' TTL ends instead of every refresh_rate_s."""
    family: DnsFamily = DnsFamily.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportMatch:
    """One transport_socket_matches entry; the cluster's plain transport_socket is the last, matching all.

    The first whose `match` is a subset of an endpoint's transport_match is used for that endpoint.
    """

    match: tuple[tuple[str, str], ...]
    is_plaintext: bool
    transport: str
    """The transport socket's name, for reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    name: str
    discovery: Discovery
    lb_policy: LbPolicy = LbPolicy.ROUND_ROBIN
    eds_service_name: str = ""
    """The ClusterLoadAssignment to subscribe to for EDS (the cluster's name when it gives none); "" otherwise."""
    assignment: ClusterLoadAssignment | None = None
    """Inline endpoints of STATIC clusters; host names of DNS clusters; None for EDS and ORIGINAL_DST."""
    is_locality_weighted: bool = False
    panic_threshold_percent: float = 0.0
    """healthy_panic_threshold where the configuration gives one. Absent means 0 here, not Envoy's 50:
    unhealthy endpoints are left out unless the configuration asks for them (docs/decisions)."""
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    """For connections that the relay makes; the kernel's own are not timed."""
    upstream_http: UpstreamHttp = UpstreamHttp.HTTP1
    transports: tuple[TransportMatch, ...] = ()
    """Empty means plaintext for every endpoint."""
    dns: DnsOptions = DnsOptions()
    limitations: tuple[Limitation, ...] = ()
