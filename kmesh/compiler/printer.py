"""Stable text of the intermediate form, for golden files and `kmeshctl dump ir`.

One line for each choice, children indented under it. Endpoints are listed in the order of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from kmesh.compiler.claims import is_v4_prefix
from kmesh.compiler.ir import (
    Chains,
    Choice,
    ClusterUnit,
    Endpoints,
    Filtered,
    Frontend,
    Hosts,
    ListenerUnit,
    Members,
    OneOf,
    Pass,
    Program,
    Refuse,
    Rotate,
    Spread,
    ToCluster,
    ToRoutes,
    Undetected,
    Unresolved,
    Weighted,
)
from kmesh.model.address import SocketAddress
from kmesh.model.endpoint import Endpoint, Health, LocalityEndpoints
from kmesh.model.listener import FilterChain, HttpConnectionManager, TcpProxy, UdpProxy, UnsupportedNetworkFilter

__all__ = ["print_program", "print_unit"]

_Lines = Iterator[tuple[int, str]]
"""(depth, text)."""


def print_program(program: Program) -> str:
    return "".join([*map(print_unit, program.listeners), *map(print_unit, program.clusters)])


def print_unit(unit: ListenerUnit | ClusterUnit) -> str:
    """Lines that each end in a newline."""
    return "".join(f"{'  ' * depth}{text}\n" for depth, text in _unit_lines(unit))


def _unit_lines(unit: ListenerUnit | ClusterUnit) -> _Lines:
    match unit:
        case ListenerUnit():
            yield 0, f"listener {unit.name}"
            for frontend in unit.frontends:
                yield 1, _name_frontend(frontend)
                yield from _choice_lines(frontend.choice, 2)
        case ClusterUnit():
            yield 0, f"cluster {unit.name}" + (" (has IPv6-only endpoints)" if unit.has_ipv6_only else "")
            yield from _choice_lines(unit.choice, 1)
        case _:
            assert_never(unit)


def _name_frontend(frontend: Frontend) -> str:
    return f"{SocketAddress(frontend.addr16, frontend.port)}/{frontend.protocol.name.lower()}"


def _choice_lines(choice: Choice, depth: int) -> _Lines:
    match choice:
        case Weighted(shares):
            yield depth, "weighted"
            for share in shares:
                yield from _labelled(str(share.weight), share.choice, depth + 1)
        case OneOf():
            known = f", the first is {'HTTP' if choice.http.takes_http2 else 'HTTP/1.1'}" if choice.http else ""
            yield depth, f"one of, undecided: {', '.join(choice.undecided) or '-'}{known}"
            for outcome in choice.outcomes:
                yield from _labelled(outcome.chain, outcome.choice, depth + 1)
        case Chains():
            yield depth, "chains"
            for chain in choice.chains:
                yield depth + 1, f"{chain.name or '-'}{_print_match(chain)}: {_print_network(chain)}"
            if choice.default:
                yield depth + 1, f"default: {_print_network(choice.default)}"
        case Members():
            yield depth, f"members of {choice.cluster.name}, {choice.cluster.lb_policy.value}"
            yield from _locality_lines(choice.assignment.localities, depth + 1)
        case Hosts():
            yield depth, f"hosts of {choice.cluster.name}, priority {choice.priority}, {choice.availability.value}"
            yield from _locality_lines(choice.localities, depth + 1)
        case Endpoints():
            yield depth, f"endpoints of {choice.cluster.name}, {choice.group}"
            yield from _endpoint_lines(choice.endpoints, depth + 1)
        case Spread():
            yield depth, "spread by weight" if choice.is_weighted else "spread evenly"
            yield from _endpoint_lines(choice.endpoints, depth + 1)
        case Rotate():
            yield depth, f"rotate {choice.group}"
            yield from _endpoint_lines(choice.endpoints, depth + 1)
        case Refuse() | Pass() | ToCluster() | ToRoutes() | Filtered() | Unresolved():
            yield depth, _print_simple(choice)
        case _:
            assert_never(choice)


def _print_undetected(undetected: Undetected | None) -> str:
    if not undetected:
        return ""
    rest, http2 = (
        ", ".join(f"{cluster.name} {cluster.weight}" for cluster in clusters) or "close"
        for clusters in (undetected.clusters, undetected.http2)
    )
    return f", HTTP/2: {http2}, else: {rest}"


def _labelled(label: str, choice: Choice, depth: int) -> _Lines:
    """The lines of a choice, the first one behind its label."""
    (first_depth, first), *rest = _choice_lines(choice, depth)
    yield first_depth, f"{label}: {first}"
    yield from rest


def _print_simple(choice: Refuse | Pass | ToCluster | ToRoutes | Filtered | Unresolved) -> str:
    match choice:
        case Refuse(reason):
            return f"refuse {reason.name.lower()}"
        case Pass():
            return "pass"
        case ToCluster(name):
            return f"cluster {name}"
        case ToRoutes(routing):
            return f"routes {routing.name}" + _print_undetected(routing.undetected)
        case Filtered(chain):
            return _print_network(chain)
        case Unresolved(cluster=None):
            return "unresolved, no such cluster"
        case Unresolved(cluster=cluster, assignment=assignment):
            assert cluster is not None
            count = sum(len(group.endpoints) for group in assignment.localities) if assignment else 0
            return f"unresolved {cluster.discovery.value}, {cluster.lb_policy.value}, endpoints {count}"
        case _:
            assert_never(choice)


def _print_network(chain: FilterChain) -> str:
    match chain.network:
        case TcpProxy() as proxy:
            weighted = ", ".join(f"{cluster.name} {cluster.weight}" for cluster in proxy.clusters)
            return f"tcp_proxy {weighted}" + (", by source address" if proxy.has_source_ip_hash else "")
        case UdpProxy(cluster=cluster):
            return f"udp_proxy {cluster}"
        case HttpConnectionManager(route_config=inline, rds_name=name):
            return f"http, routes {inline.name if inline else name}"
        case UnsupportedNetworkFilter(limitations=limitations):
            return "unsupported " + ", ".join(limitation.feature for limitation in limitations)
        case _:
            assert_never(chain.network)


def _print_match(chain: FilterChain) -> str:
    match = chain.match
    parts = [f"port {match.destination_port}"] if match.destination_port is not None else []
    parts += [_print_prefix(prefix, bits) for prefix, bits in match.prefix_ranges]
    parts += match.server_names
    parts += [match.transport_protocol] if match.transport_protocol else []
    parts += match.application_protocols
    has_sources = match.direct_source_prefix_ranges or match.source_prefix_ranges or match.source_ports
    parts += ["by source"] if has_sources else []
    return f" ({', '.join(parts)})" if parts else ""


def _print_prefix(prefix: bytes, bits: int) -> str:
    return f"{SocketAddress(prefix, 0).ip}/{bits - 96 if is_v4_prefix(prefix, bits) else bits}"


def _locality_lines(localities: tuple[LocalityEndpoints, ...], depth: int) -> _Lines:
    for group in localities:
        weight = "" if group.weight is None else f", weight {group.weight}"
        yield depth, f"{group.locality}, priority {group.priority}{weight}"
        yield from _endpoint_lines(group.endpoints, depth + 1)


def _endpoint_lines(endpoints: tuple[Endpoint, ...], depth: int) -> _Lines:
    for endpoint in endpoints:
        addresses = " ".join(map(str, (endpoint.address, *endpoint.additional)))
        weight = f" weight {endpoint.weight}" if endpoint.weight != 1 else ""
        health = f" {endpoint.health.value}" if endpoint.health is not Health.HEALTHY else ""
        yield depth, f"{addresses}{weight}{health}"
