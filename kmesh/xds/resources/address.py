"""Addresses of listeners and endpoints, and CIDR ranges of filter chain matches."""

from __future__ import annotations

from typing import Any

from kmesh.model.address import HostAddress, Protocol, SocketAddress
from kmesh.xds.resources.field import FieldInvalid, clip, under

__all__ = ["decode_cidr", "decode_host", "decode_protocol", "decode_socket"]

_TCP = 0


def decode_socket(socket: Any, path: str) -> SocketAddress:
    """core.SocketAddress with an IP address and a port number."""
    _check_resolver(socket, path)
    try:
        return SocketAddress.parse(socket.address, socket.port_value)
    except ValueError:
        raise FieldInvalid(under(path, "address"), f"{clip(socket.address)} is not an IP address") from None


def decode_host(socket: Any, path: str) -> SocketAddress | HostAddress:
    """core.SocketAddress of a DNS cluster: an IP address needs no resolution, anything else is a name."""
    _check_resolver(socket, path)
    try:
        return SocketAddress.parse(socket.address, socket.port_value)
    except ValueError:
        return HostAddress(socket.address, socket.port_value)


def decode_protocol(socket: Any) -> Protocol:
    return Protocol.TCP if socket.protocol == _TCP else Protocol.UDP


def decode_cidr(cidr: Any, path: str) -> tuple[bytes, int]:
    """(16 bytes with host bits zero, bits of the 16-byte form). IPv4 lengths beyond 32 are cut, as Envoy does."""
    text = cidr.address_prefix
    try:
        addr16 = SocketAddress.parse(text, 0).addr16
    except ValueError:
        raise FieldInvalid(under(path, "address_prefix"), f"{clip(text)} is not an IP address") from None
    bits = cidr.prefix_len.value if ":" in text else 96 + min(cidr.prefix_len.value, 32)
    host_bits = 128 - bits
    return (int.from_bytes(addr16, "big") >> host_bits << host_bits).to_bytes(16, "big"), bits


def _check_resolver(socket: Any, path: str) -> None:
    """Envoy's only resolver of addresses takes what needs none: IP addresses and port numbers."""
    if socket.resolver_name not in ("", "envoy.ip"):
        raise FieldInvalid(under(path, "resolver_name"), f"{clip(socket.resolver_name)} is no address resolver")
    if socket.WhichOneof("port_specifier") == "named_port":
        raise FieldInvalid(under(path, "named_port"), "is not a number")
