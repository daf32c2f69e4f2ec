"""Listeners: which connections are captured, and what their filter chains do with them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.limitation import Limitation
from kmesh.model.route import RouteConfiguration
from kmesh.model.weighted_cluster import WeightedCluster

__all__ = [
    "Detection",
    "Direction",
    "EscapedSlashes",
    "FilterChain",
    "FilterChainMatch",
    "Http10",
    "HttpConnectionManager",
    "Listener",
    "NetworkFilter",
    "Normalization",
    "SourceType",
    "StripPort",
    "TcpProxy",
    "UdpProxy",
    "UnsupportedNetworkFilter",
    "WeightedCluster",
]


class Direction(Enum):
    """core.TrafficDirection."""

    UNSPECIFIED = "UNSPECIFIED"
    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"


class SourceType(Enum):
    """FilterChainMatch.ConnectionSourceType."""

    ANY = "ANY"
    SAME_IP_OR_LOOPBACK = "SAME_IP_OR_LOOPBACK"
    EXTERNAL = "EXTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProxy:
    """envoy.filters.network.tcp_proxy. A plain `cluster` is one entry of weight 1."""

    clusters: tuple[WeightedCluster, ...]
    has_source_ip_hash: bool = False
    """hash_policy is set: matters to RING_HASH and MAGLEV clusters only."""
    limitations: tuple[Limitation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpProxy:
    """envoy.filters.udp_listener.udp_proxy with one cluster."""

    cluster: str
    limitations: tuple[Limitation, ...] = ()


class EscapedSlashes(Enum):
    """path_with_escaped_slashes_action: what becomes of %2F, %5C and their lower-case forms in paths."""

    KEEP_UNCHANGED = "KEEP_UNCHANGED"
    REJECT_REQUEST = "REJECT_REQUEST"
    UNESCAPE_AND_REDIRECT = "UNESCAPE_AND_REDIRECT"
    UNESCAPE_AND_FORWARD = "UNESCAPE_AND_FORWARD"


class StripPort(Enum):
    """Which ports are cut off Host before anything is matched."""

    NONE = "none"
    MATCHING = "strip_matching_host_port"
    """The port that was connected to."""
    ANY = "strip_any_host_port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """What is done to requests before their virtual host and route are looked for; every default does nothing.

    Connections decided at connect are not touched: the fields are among their listener's limitations too.
    """

    escaped_slashes: EscapedSlashes = EscapedSlashes.KEEP_UNCHANGED
    normalizes_path: bool = False
    """normalize_path: RFC 3986 section 6, dot segments and percent-encoding."""
    merges_slashes: bool = False
    strip_port: StripPort = StripPort.NONE
    strips_trailing_dot: bool = False
    """strip_trailing_host_dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http10:
    """accept_http_10: requests of HTTP/1.0 are served. Without it they are answered 426."""

    default_host: str = ""
    """default_host_for_http_10: of a request that names none. Empty: that is answered 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectionManager:
    """envoy.filters.network.http_connection_manager: `route_config` inline, or `rds_name` to subscribe to."""

    route_config: RouteConfiguration | None = None
    rds_name: str = ""
    normalization: Normalization = Normalization()
    http10: Http10 | None = None
    limitations: tuple[Limitation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedNetworkFilter:
    """A terminal filter, or one before it, that nothing here can honour."""

    limitations: tuple[Limitation, ...]


NetworkFilter = TcpProxy | UdpProxy | HttpConnectionManager | UnsupportedNetworkFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChainMatch:
    """listener.FilterChainMatch; every default matches any connection.

    Prefixes are (16 bytes with host bits zero, length in bits of the 16-byte form: /24 of IPv4 is 120).
    """

    destination_port: int | None = None
    prefix_ranges: tuple[tuple[bytes, int], ...] = ()
    direct_source_prefix_ranges: tuple[tuple[bytes, int], ...] = ()
    source_type: SourceType = SourceType.ANY
    source_prefix_ranges: tuple[tuple[bytes, int], ...] = ()
    source_ports: tuple[int, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        return self == ANY_MATCH


ANY_MATCH = FilterChainMatch()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChain:
    """`network` is what the chain's filters amount to; `limitations` are the chain's own (downstream TLS)."""

    name: str = ""
    match: FilterChainMatch = ANY_MATCH
    network: NetworkFilter
    limitations: tuple[Limitation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a listener does to know HTTP by a connection's first bytes (its http_inspector)."""

    timeout_s: float | None = 15.0
    """listener_filters_timeout: how long the first bytes are waited for; None: for ever."""
    continues: bool = False
    """continue_on_listener_filters_timeout: then the connection is taken for anything but HTTP; else it is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    name: str
    addresses: tuple[SocketAddress, ...]
    """`address` first, then `additional_addresses`."""
    protocol: Protocol = Protocol.TCP
    bind_to_port: bool = True
    use_original_dst: bool = False
    """Connections that no other listener's address matches come here (istiod's virtualOutbound)."""
    direction: Direction = Direction.UNSPECIFIED
    filter_chains: tuple[FilterChain, ...] = ()
    default_filter_chain: FilterChain | None = None
    detection: Detection | None = None
    """None where connections are not looked into: none has an application protocol of HTTP's."""
    limitations: tuple[Limitation, ...] = ()

    @property
    def all_filter_chains(self) -> tuple[FilterChain, ...]:
        extra = (self.default_filter_chain,) if self.default_filter_chain else ()
        return self.filter_chains + extra
