"""Hosts with and without ports.

Source: RFC 3986 section 3.2; source/common/http/header_utility.cc of Envoy.
"""

from __future__ import annotations

from kmesh.model.listener import Normalization, StripPort

__all__ = ["cut_port", "normalize_authority", "split_port"]


def split_port(authority: bytes) -> tuple[bytes, bytes | None]:
    """(host, what follows the last colon outside an IPv6 literal), None where there is none."""
    colon = authority.rfind(b":")
    if colon < 0 or authority.rfind(b"]") > colon:
        return authority, None
    return authority[:colon], authority[colon + 1 :]


def cut_port(authority: bytes) -> bytes:
    return split_port(authority)[0]


def normalize_authority(authority: bytes, options: Normalization, port: int) -> bytes:
    """`port` is the one that was connected to."""
    if options.strips_trailing_dot:
        authority = _cut_trailing_dot(authority)
    host, written = split_port(authority)
    if options.strip_port is StripPort.NONE or written is None or not written.isdigit():
        return authority
    return host if options.strip_port is StripPort.ANY or int(written) == port else authority


def _cut_trailing_dot(authority: bytes) -> bytes:
    """Of the host, which a port may follow."""
    before, dot, after = authority.rpartition(b".")
    return before + after if dot and (not after or after.startswith(b":")) else authority
