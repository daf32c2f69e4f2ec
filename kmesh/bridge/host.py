"""What this machine says of itself: the defaults that settings take from it. Sends nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

__all__ = ["default_node_id", "find_own_address"]

# Addresses reserved for documentation (RFC 5737, RFC 3849): routed like any other, and nobody's.
_ROUTE_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def default_node_id(environ: Mapping[str, str]) -> str:
    """A node id in the four parts that istiod insists on: sidecar~IP~NAME.NAMESPACE~NAMESPACE.svc.cluster.local.

    INSTANCE_IP, POD_NAME and POD_NAMESPACE are taken from the environment where Istio's injection template sets them;
    else the address of the default route, the host name's first label, and "default".
    """
    ip = environ.get("INSTANCE_IP") or find_own_address()
    name = environ.get("POD_NAME") or _label(socket.gethostname())
    namespace = environ.get("POD_NAMESPACE") or "default"
    return f"sidecar~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"


def find_own_address() -> str:
    """The source address of the default route, IPv4 before IPv6; 127.0.0.1 on a host without one.

    Connecting a UDP socket only looks the route up: no packet leaves.
    """
    for family, destination in _ROUTE_PROBES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((destination, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return "127.0.0.1"


def _label(hostname: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", hostname.split(".")[0].lower()).strip("-") or "localhost"
