"""Finds the virtual host of a request without looking at all of them: kmesh.compiler.semantics' rule, by tables."""

from __future__ import annotations

from collections.abc import Mapping

from kmesh.compiler.semantics.authority import cut_port
from kmesh.model.route import RouteConfiguration, VirtualHost

__all__ = ["HostIndex"]


class HostIndex:
    """Of one route configuration. A look-up costs one step for each length that a wildcard has."""

    def __init__(self, config: RouteConfiguration) -> None:
        self._ignores_port = config.ignores_port
        self._exact: dict[bytes, VirtualHost] = {}
        self._suffixes: dict[bytes, VirtualHost] = {}
        self._prefixes: dict[bytes, VirtualHost] = {}
        self._any: VirtualHost | None = None
        for host in config.virtual_hosts:
            for domain in host.domains:
                self._add(domain.lower().encode(), host)
        self._suffix_lengths = _lengths(self._suffixes)
        self._prefix_lengths = _lengths(self._prefixes)

    def find(self, authority: bytes) -> VirtualHost | None:
        """None where no domain matches."""
        host = (cut_port(authority) if self._ignores_port else authority).lower()
        if found := self._exact.get(host):
            return found
        for length in self._suffix_lengths:
            if length < len(host) and (found := self._suffixes.get(host[-length:])):
                return found
        for length in self._prefix_lengths:
            if length < len(host) and (found := self._prefixes.get(host[:length])):
                return found
        return self._any

    def _add(self, domain: bytes, host: VirtualHost) -> None:
        if domain == b"*":
            self._any = host
        elif domain.startswith(b"*"):
            self._suffixes[domain[1:]] = host
        elif domain.endswith(b"*"):
            self._prefixes[domain[:-1]] = host
        else:
            self._exact[domain] = host


def _lengths(table: Mapping[bytes, VirtualHost]) -> tuple[int, ...]:
    """The longest first."""
    return tuple(sorted({len(text) for text in table}, reverse=True))
