"""A cluster that would reach some endpoint over anything but plain bytes is refused as a whole.

    endpoints of web: one whose transport_socket_match selects tls
 -> refuse unsupported

Only endpoints that take load now count. Leaving out just those endpoints would send their share to the others.
"""

from __future__ import annotations

from dataclasses import replace

from kmesh.compiler.ir import ClusterUnit, Endpoints, Program, Refuse, leaves
from kmesh.compiler.report import Report
from kmesh.model.cluster import TransportMatch
from kmesh.model.endpoint import Endpoint
from kmesh.model.limitation import Effect
from kmesh.records.constants import Reason

__all__ = ["check_transports"]


def check_transports(program: Program) -> Program:
    return replace(program, clusters=tuple(map(_check, program.clusters)))


def _check(unit: ClusterUnit) -> ClusterUnit:
    for leaf in leaves(unit.choice):
        if not isinstance(leaf, Endpoints) or all(t.is_plaintext for t in leaf.cluster.transports):
            continue
        for endpoint in leaf.endpoints:
            transport = _find_transport(leaf.cluster.transports, endpoint)
            if transport and not transport.is_plaintext:
                return _refuse(unit, endpoint, transport)
    return unit


def _find_transport(transports: tuple[TransportMatch, ...], endpoint: Endpoint) -> TransportMatch | None:
    """The first whose match is a subset of the endpoint's; None is plaintext."""
    criteria = set(endpoint.transport_match)
    return next((transport for transport in transports if criteria.issuperset(transport.match)), None)


def _refuse(unit: ClusterUnit, endpoint: Endpoint, transport: TransportMatch) -> ClusterUnit:
    report = Report(
        kind="cluster",
        name=unit.name,
        feature=f"transport socket {transport.transport}",
        path="transport_socket_matches" if transport.match else "transport_socket",
        effect=Effect.REFUSED,
        consequence=f"endpoint {endpoint.address} is only reached through it: the cluster's connections are refused",
    )
    return replace(unit, choice=Refuse(Reason.UNSUPPORTED), reports=(*unit.reports, report))
