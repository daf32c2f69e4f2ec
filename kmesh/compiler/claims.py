"""Which listener captures which destination: addresses, wildcards, and what filter chain matches add to them.

A listener captures its own addresses. A wildcard listener also captures each single address that its chains match
(filter_chain_match.prefix_ranges of one host), and a use_original_dst listener each port they match
(destination_port), unless another listener has that destination for its own: then that one wins, as in Envoy's
choice of a listener, which comes before the choice of a chain. Pure; reads listeners only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kmesh.compiler.report import Report, report_limitations
from kmesh.model.address import V4_MAPPED, WILDCARD_V4, WILDCARD_V6, Protocol, SocketAddress
from kmesh.model.limitation import Effect
from kmesh.model.listener import Direction, FilterChainMatch, Listener

__all__ = ["Claims", "Destination", "claim_destinations", "is_v4_prefix", "specificity"]

Destination = tuple[bytes, int, Protocol]
"""(addr16, port, protocol), with wildcards as in kmesh.compiler.ir.Frontend."""

_HOST_BITS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    destinations: Mapping[str, tuple[Destination, ...]]
    """By listener name; only listeners that capture something."""
    reports: tuple[Report, ...]
    """Of listeners that capture nothing."""


def claim_destinations(listeners: Mapping[str, Listener]) -> Claims:
    """Settle who captures what; where two listeners want the same address, the first by name has it.

    A listener that wants a taken address captures nothing at all: Envoy rejects it as a whole.
    """
    owners: dict[Destination, str] = {}
    reports: list[Report] = []
    for name in sorted(listeners):
        found = _find_inactive(listeners[name]) or _find_taken(listeners[name], owners)
        reports += found
        if not found:
            owners.update(dict.fromkeys(_own_destinations(listeners[name]), name))
    for name in sorted(set(owners.values())):
        for destination in _matched_destinations(listeners[name]):
            owners.setdefault(destination, name)
    destinations: dict[str, list[Destination]] = {}
    for destination, name in owners.items():
        destinations.setdefault(name, []).append(destination)
    return Claims(
        destinations={name: tuple(sorted(destinations[name])) for name in sorted(destinations)},
        reports=tuple(reports),
    )


def is_v4_prefix(addr16: bytes, bits: int) -> bool:
    """Whether a prefix of the 16-byte form is one of IPv4."""
    return bits >= 96 and addr16.startswith(V4_MAPPED)


def specificity(match: FilterChainMatch, addr16: bytes) -> int | None:
    """Length in bits, within its family, of the longest prefix range that covers `addr16`; 0 for no ranges at all.

    None when there are ranges and none covers it. A wildcard stands for an address that no host range names.
    """
    if not match.prefix_ranges:
        return 0
    is_v4 = addr16.startswith(V4_MAPPED)
    is_wildcard = addr16 in (WILDCARD_V4, WILDCARD_V6)
    covering = [
        bits - 96 if is_v4 else bits
        for prefix, bits in match.prefix_ranges
        if is_v4_prefix(prefix, bits) == is_v4 and _covers(prefix, bits, addr16)
        and not (is_wildcard and bits == _HOST_BITS)
    ]  # fmt: skip
    return max(covering, default=None)


def _covers(prefix: bytes, bits: int, addr16: bytes) -> bool:
    host_bits = _HOST_BITS - bits
    return int.from_bytes(prefix, "big") >> host_bits == int.from_bytes(addr16, "big") >> host_bits


def _wildcard(address: SocketAddress) -> bytes:
    return WILDCARD_V4 if address.is_v4 else WILDCARD_V6


def _own_destinations(listener: Listener) -> tuple[Destination, ...]:
    if listener.use_original_dst:
        return tuple(dict.fromkeys((_wildcard(a), 0, listener.protocol) for a in listener.addresses))
    return tuple(dict.fromkeys((a.addr16, a.port, listener.protocol) for a in listener.addresses))


def _matched_destinations(listener: Listener) -> Iterator[Destination]:
    """What the chains of a wildcard listener single out."""
    for addr16, own_port, protocol in _own_destinations(listener):
        if addr16 not in (WILDCARD_V4, WILDCARD_V6):
            continue
        for chain in listener.filter_chains:
            port = own_port or chain.match.destination_port
            if not port:
                continue
            if not own_port:
                yield addr16, port, protocol
            for prefix, bits in chain.match.prefix_ranges:
                if bits == _HOST_BITS and prefix.startswith(V4_MAPPED) == (addr16 == WILDCARD_V4):
                    yield prefix, port, protocol


def _find_inactive(listener: Listener) -> tuple[Report, ...]:
    """Why a listener captures nothing whatever the others do; empty when it captures something."""
    inactive = [limitation for limitation in listener.limitations if limitation.effect is Effect.INACTIVE]
    if inactive:
        return report_limitations("listener", listener.name, inactive)
    if listener.direction is Direction.INBOUND:
        return _report(listener, "traffic_direction INBOUND", "only connections that leave are captured")
    if listener.use_original_dst and listener.protocol is not Protocol.TCP:
        return _report(listener, "use_original_dst", "only TCP has an original destination: it captures nothing")
    if listener.use_original_dst:
        return ()
    for address in listener.addresses:
        if address.port == 0:
            return _report(listener, "port 0", "no connection is made to port 0: give it a port")
        if address.is_wildcard and listener.bind_to_port:
            return _report(
                listener,
                "a wildcard address",
                f"Envoy would take only connections to this host's own port {address.port} and this would take those "
                "to any host: set bind_to_port to false if that is meant, or name the service's address",
            )
    return ()


def _find_taken(listener: Listener, owners: Mapping[Destination, str]) -> tuple[Report, ...]:
    for destination in _own_destinations(listener):
        if destination in owners:
            addr16, port, _ = destination
            what = f"address {SocketAddress(addr16, port)}" if port else "use_original_dst"
            owner = owners[destination]
            return _report(listener, what, f"listener {owner!r} has it already: this one captures nothing")
    return ()


def _report(listener: Listener, feature: str, consequence: str) -> tuple[Report, ...]:
    return (
        Report(
            kind="listener",
            name=listener.name,
            feature=feature,
            path="",
            effect=Effect.INACTIVE,
            consequence=consequence,
        ),
    )
