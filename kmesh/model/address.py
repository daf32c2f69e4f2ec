"""Addresses as every later layer handles them: one 16-byte form for both families."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

__all__ = [
    "LOOPBACK_V4",
    "LOOPBACK_V6",
    "V4_MAPPED",
    "WILDCARD_V4",
    "WILDCARD_V6",
    "HostAddress",
    "Protocol",
    "SocketAddress",
]

V4_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2
WILDCARD_V4 = V4_MAPPED + bytes(4)
WILDCARD_V6 = bytes(16)
LOOPBACK_V4 = V4_MAPPED + bytes((127, 0, 0, 1))
LOOPBACK_V6 = bytes(15) + b"\x01"


class Protocol(IntEnum):
    """Transport protocol, numbered as IPPROTO_*."""

    TCP = 6
    UDP = 17


class SocketAddress(NamedTuple):
    """An IP address and port. A tuple, since a mesh holds hundreds of thousands of them."""

    addr16: bytes
    """16 bytes in network order; IPv4 is v4-mapped."""
    port: int
    """Host order, 0 to 65535."""

    @property
    def is_v4(self) -> bool:
        return self.addr16[:12] == V4_MAPPED

    @property
    def is_wildcard(self) -> bool:
        return self.addr16 in (WILDCARD_V4, WILDCARD_V6)

    @property
    def ip(self) -> str:
        if self.is_v4:
            return ".".join(map(str, self.addr16[12:]))
        return inet_ntop(AF_INET6, self.addr16)

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}" if self.is_v4 else f"[{self.ip}]:{self.port}"

    @classmethod
    def parse(cls, ip: str, port: int) -> SocketAddress:
        """From text. Raises ValueError when `ip` is not an IPv4 or IPv6 address or `port` is out of range."""
        if not 0 <= port <= 0xFFFF:
            raise ValueError(f"port {port} is not in 0..65535")
        try:
            if ":" not in ip:
                return cls(V4_MAPPED + inet_pton(AF_INET, ip), port)
            if "%" not in ip:
                return cls(inet_pton(AF_INET6, ip), port)
        except (OSError, ValueError):
            raise ValueError(f"{ip!r} is not an IP address") from None
        raise ValueError(f"{ip!r} has a zone, which only its own host can read")


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A name still to be resolved (STRICT_DNS and LOGICAL_DNS endpoints)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
