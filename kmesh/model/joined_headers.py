"""Which headers Envoy looks at as one value when they come more than once.

Source: source/common/http/header_map_impl.cc of Envoy: its inline headers, whose values it joins as they are read.
"""

from __future__ import annotations

__all__ = ["JOINED_HEADERS"]

JOINED_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "access-control-request-headers", "access-control-request-method"),
        *("access-control-request-private-network", "authentication", "authorization", "cache-control", "cdn-loop"),
        *("content-encoding", "content-type", "expect", "grpc-accept-encoding", "grpc-timeout", "if-match"),
        *("if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "origin", "pragma"),
        *("proxy-status", "referer", "user-agent", "via", "x-forwarded-host", "x-forwarded-port"),
    )
)
"""Lower case. The values are joined by commas, empty ones left out; those of any other header are looked at one by
one."""
