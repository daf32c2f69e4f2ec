"""Settings of the xDS client."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from envoy.config.core.v3 import base_pb2

import kmesh
from kmesh.model.address import HostAddress
from kmesh.xds.type_state import NOT_RECEIVED_S

__all__ = ["AdsConfig", "Variant", "build_node"]

_MIB = 1 << 20
_CLIENT_FEATURES = (
    "xds.config.supports-resource-ttl",
    # The wrapper in SotW responses has one name in xds_protocol.rst and another in client_features.rst.
    "xds.config.supports-resource-in-sotw",
    "xds.config.resource-in-sotw",
)


class Variant(Enum):
    SOTW = "sotw"
    DELTA = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdsConfig:
    server: HostAddress | Path
    """A host name or IP address (IPv6 without brackets) with a port, or the path of a Unix socket."""
    variant: Variant
    node_id: str
    node_cluster: str = ""
    node_metadata: Mapping[str, object] = field(default_factory=dict)
    """Values as of JSON."""
    tls: Callable[[], ssl.SSLContext] | None = None
    """Makes the context of one connection, so that rotated certificates are taken up; ALPN is set on it to "h2".
    May raise ConfigError: then that connection failed. None: plaintext."""
    server_name: str = ""
    """Expected in the server's certificate and sent as :authority; "" means the host of `server`."""
    token_file: Path | None = None
    """Read anew for every connection. The token is sent over TLS, a Unix socket, or to a loopback address; towards
    any other address in plaintext the connection is refused, since whoever reads the token may use it."""
    not_received_s: float = NOT_RECEIVED_S
    connect_timeout_s: float = 10.0
    """For each address, TLS handshake included."""
    send_timeout_s: float = 30.0
    """For one request to be taken by the connection's flow control; then the stream counts as lost."""
    ping_interval_s: float = 330.0
    """HTTP/2 PINGs. Servers close connections that ping more often than they permit, by default every 5 minutes
    (gRFC A8), so this stays above that. A dead host is noticed sooner, by TCP keepalive."""
    ping_timeout_s: float = 20.0
    tcp_keepalive_s: int = 30
    """Idle time before the first TCP keepalive probe; the connection is lost after about twice that."""
    backoff_initial_s: float = 0.5
    backoff_maximum_s: float = 30.0
    """Both as Envoy's (SubscriptionFactory::RetryInitialDelayMs, RetryMaxDelayMs)."""
    window_bytes: int = 16 * _MIB
    """HTTP/2 flow control window: what the server may send ahead of the consumer, and what keeps a 200 MiB
    response from costing a round trip for every 64 KiB. It does not bound a message, and nothing else does."""


def build_node(config: AdsConfig) -> base_pb2.Node:
    """The identity sent in the first request of every stream."""
    node = base_pb2.Node(
        id=config.node_id,
        cluster=config.node_cluster,
        user_agent_name="kmesh",
        user_agent_version=kmesh.__version__,
        client_features=_CLIENT_FEATURES,
    )
    if config.node_metadata:
        node.metadata.update(dict(config.node_metadata))
    return node
