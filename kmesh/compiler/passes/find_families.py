"""Notes which clusters use endpoints that no IPv4 socket can connect to. Choices stay as they are.

    cluster web, endpoint [2001:db8::1]:80
 -> cluster web, has IPv6-only endpoints
"""

from __future__ import annotations

from dataclasses import replace

from kmesh.compiler.ir import ClusterUnit, Endpoints, Program, leaves
from kmesh.model.address import V4_MAPPED, SocketAddress
from kmesh.model.endpoint import Endpoint

__all__ = ["find_families"]


def find_families(program: Program) -> Program:
    return replace(program, clusters=tuple(map(_find, program.clusters)))


def _find(unit: ClusterUnit) -> ClusterUnit:
    for leaf in leaves(unit.choice):
        if isinstance(leaf, Endpoints) and not all(map(_has_ipv4, leaf.endpoints)):
            return replace(unit, has_ipv6_only=True)
    return unit


def _has_ipv4(endpoint: Endpoint) -> bool:
    address = endpoint.address
    assert isinstance(address, SocketAddress), "a snapshot has only resolved endpoints"
    return address.addr16.startswith(V4_MAPPED) or any(a.is_v4 for a in endpoint.additional)
