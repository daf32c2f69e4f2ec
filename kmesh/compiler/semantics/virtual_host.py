"""The virtual host of a request: its exact domain, else the longest suffix wildcard, the longest prefix wildcard, *.

Source: envoy/config/route/v3/route_components.proto, VirtualHost.domains; source/common/router/config_impl.cc.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.compiler.semantics.authority import cut_port
from kmesh.model.route import RouteConfiguration, VirtualHost

__all__ = ["find_virtual_host"]


def find_virtual_host(config: RouteConfiguration, authority: bytes) -> VirtualHost | None:
    """None where no domain matches. A wildcard stands for one character at least."""
    host = cut_port(authority) if config.ignores_port else authority
    best: tuple[int, int] = (0, 0)
    found: VirtualHost | None = None
    for domain, virtual_host in _domains(config):
        rank = _rank(domain, host.lower())
        if rank > best:
            best, found = rank, virtual_host
    return found


def _domains(config: RouteConfiguration) -> Iterator[tuple[bytes, VirtualHost]]:
    for virtual_host in config.virtual_hosts:
        for domain in virtual_host.domains:
            yield domain.lower().encode(), virtual_host


def _rank(domain: bytes, host: bytes) -> tuple[int, int]:
    """How well a domain matches: exact 4, suffix wildcard 3, prefix wildcard 2, any 1, none 0; then its length."""
    if domain == b"*":
        return 1, 0
    if domain.startswith(b"*"):
        return (3, len(domain)) if host.endswith(domain[1:]) and len(host) >= len(domain) else (0, 0)
    if domain.endswith(b"*"):
        return (2, len(domain)) if host.startswith(domain[:-1]) and len(host) >= len(domain) else (0, 0)
    return (4, 0) if domain == host else (0, 0)
