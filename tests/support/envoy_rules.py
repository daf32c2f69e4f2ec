"""What Envoy does with a connection, evaluated naively and straight from a Snapshot: the compiler's oracle.

Written without the compiler's code or structures: listeners are searched for each destination, filter chains are
tried on every kind of connection that could come, priorities are asked for each of 100 draws. Slow on purpose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, LbPolicy, UpstreamHttp
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Health, LocalityEndpoints
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import (
    Direction,
    FilterChain,
    HttpConnectionManager,
    Listener,
    TcpProxy,
    UdpProxy,
)
from kmesh.model.route import ClusterAction, RouteConfiguration
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Reason
from tests.support.distribution import Distribution

__all__ = ["evaluate"]

_REFUSED: Distribution = {Reason.UNSUPPORTED: Fraction(1)}
Way = tuple[tuple[str | Reason, int], ...]
"""Where a filter chain sends: (cluster or refusal, weight)."""


def evaluate(snapshot: Snapshot, destination: SocketAddress, protocol: Protocol = Protocol.TCP) -> Distribution:
    """The probability of each backend and refusal, for a connection from an IPv6 socket."""
    listener = _find_listener(snapshot, destination, protocol)
    if listener is None:
        return {Reason.NOT_MESH: Fraction(1)}
    if _is_refused(listener.limitations) or _has_range(listener):
        return _REFUSED
    ways = {_follow_chain(snapshot, chain) for chain in _possible_chains(listener, destination)}
    if len(ways) > 1:
        return _REFUSED
    (way,) = ways
    whole = sum(weight for _, weight in way)
    found: defaultdict[SocketAddress | Reason, Fraction] = defaultdict(Fraction)
    for target, weight in way:
        share = Fraction(weight, whole)
        below = {target: Fraction(1)} if isinstance(target, Reason) else _evaluate_cluster(snapshot, target)
        for result, probability in below.items():
            found[result] += share * probability
    return {result: probability for result, probability in found.items() if probability}


def _is_refused(limitations: tuple[Limitation, ...]) -> bool:
    return any(limitation.effect is Effect.REFUSED for limitation in limitations)


# Listeners


def _find_listener(snapshot: Snapshot, destination: SocketAddress, protocol: Protocol) -> Listener | None:
    active = _active_listeners(snapshot)
    for listener in active:
        if destination in listener.addresses and listener.protocol is protocol and not listener.use_original_dst:
            return listener
    wild = [listener for listener in active if listener.protocol is protocol and _is_wild_for(listener, destination)]
    for listener in wild:
        ports = [a.port for a in listener.addresses if a.is_wildcard and a.is_v4 == destination.is_v4]
        if not listener.use_original_dst and destination.port in ports:
            return listener
    return next((listener for listener in wild if listener.use_original_dst), None)


def _active_listeners(snapshot: Snapshot) -> list[Listener]:
    active: list[Listener] = []
    for _, listener in sorted(snapshot.listeners.items()):
        bound = [a for a in listener.addresses if a.is_wildcard and listener.bind_to_port]
        if listener.direction is Direction.INBOUND or (bound and not listener.use_original_dst):
            continue
        if not any(_are_rivals(listener, other) for other in active):
            active.append(listener)
    return active


def _are_rivals(one: Listener, other: Listener) -> bool:
    if one.protocol is not other.protocol or one.use_original_dst is not other.use_original_dst:
        return False
    if one.use_original_dst:
        return bool({a.is_v4 for a in one.addresses} & {a.is_v4 for a in other.addresses})
    return bool(set(one.addresses) & set(other.addresses))


def _is_wild_for(listener: Listener, destination: SocketAddress) -> bool:
    if listener.use_original_dst:
        return any(a.is_v4 == destination.is_v4 for a in listener.addresses)
    return any(a.is_wildcard and a.is_v4 == destination.is_v4 for a in listener.addresses)


def _has_range(listener: Listener) -> bool:
    """A wildcard listener with chains for a range of hosts, or for one host at whatever port."""
    if not listener.use_original_dst and not any(a.is_wildcard for a in listener.addresses):
        return False
    return any(
        bits < 128 or (listener.use_original_dst and chain.match.destination_port is None)
        for chain in listener.filter_chains
        for _, bits in chain.match.prefix_ranges
    )


# Filter chains


@dataclass(frozen=True)
class _Connection:
    server_name: str
    transport: str
    application: str


def _possible_chains(listener: Listener, destination: SocketAddress) -> Iterator[FilterChain | None]:
    matches = [chain.match for chain in listener.filter_chains]
    names = {"else", *(name for match in matches for name in match.server_names)}
    transports = {"else", *(match.transport_protocol for match in matches if match.transport_protocol)}
    applications = {"else", *(name for match in matches for name in match.application_protocols)}
    for facts in product(names, transports, applications):
        yield _match_chain(listener, destination, _Connection(*facts))


def _match_chain(listener: Listener, destination: SocketAddress, connection: _Connection) -> FilterChain | None:
    """Envoy's walk: at each criterion keep those that name the value, else those that name none; never go back."""
    left = list(listener.filter_chains)
    left = [c for c in left if c.match.destination_port == destination.port] or [
        c for c in left if c.match.destination_port is None
    ]
    bits = {id(c): _prefix_bits(c, destination) for c in left}
    left = [c for c in left if bits[id(c)] == max(bits.values()) >= 0]
    left = [c for c in left if connection.server_name in c.match.server_names] or [
        c for c in left if not c.match.server_names
    ]
    left = [c for c in left if c.match.transport_protocol == connection.transport] or [
        c for c in left if not c.match.transport_protocol
    ]
    left = [c for c in left if connection.application in c.match.application_protocols] or [
        c for c in left if not c.match.application_protocols
    ]
    return left[0] if left else listener.default_filter_chain


def _prefix_bits(chain: FilterChain, destination: SocketAddress) -> int:
    """Length of the longest range that has the destination, 0 without ranges, -1 if none has it."""
    if not chain.match.prefix_ranges:
        return 0
    asked = _binary(destination.addr16)
    covering = [bits for prefix, bits in chain.match.prefix_ranges if _binary(prefix)[:bits] == asked[:bits]]
    return max(covering, default=-1)


def _binary(addr16: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in addr16)


def _follow_chain(snapshot: Snapshot, chain: FilterChain | None) -> Way:
    if chain is None:
        return ((Reason.NO_ROUTE, 1),)
    if _is_refused(chain.limitations) or _is_refused(chain.network.limitations):
        return ((Reason.UNSUPPORTED, 1),)
    match chain.network:
        case TcpProxy(clusters=clusters):
            return tuple((weighted.name, weighted.weight) for weighted in clusters)
        case UdpProxy(cluster=name):
            return ((name, 1),)
        case HttpConnectionManager(route_config=inline, rds_name=name):
            return _follow_routes(snapshot, inline or snapshot.route_configs.get(name))
        case _:
            return ((Reason.UNSUPPORTED, 1),)


def _follow_routes(snapshot: Snapshot, config: RouteConfiguration | None) -> Way:
    if config is None or not config.virtual_hosts:
        return ((Reason.NO_ROUTE, 1),)
    outcomes: set[str | None] = set() if any("*" in host.domains for host in config.virtual_hosts) else {None}
    for host in config.virtual_hosts:
        for route in host.routes:
            outcomes.add(route.action.cluster if isinstance(route.action, ClusterAction) else None)
            if route.matches_all:
                break
        else:
            outcomes.add(None)
    (only, *others) = outcomes
    cluster = snapshot.clusters.get(only or "")
    if others or only is None or (cluster and cluster.upstream_http is UpstreamHttp.HTTP2):
        return ((Reason.ROUTED, 1),)
    return ((only, 1),)


# Clusters


def _evaluate_cluster(snapshot: Snapshot, name: str) -> Distribution:
    cluster = snapshot.clusters.get(name)
    if cluster is None:
        return {Reason.NO_CLUSTER: Fraction(1)}
    if _is_refused(cluster.limitations):
        return _REFUSED
    if cluster.discovery is Discovery.ORIGINAL_DST:
        return {Reason.PASSED: Fraction(1)}
    assignment = snapshot.assignments.get(name)
    if assignment and _is_refused(assignment.limitations):
        return _REFUSED
    if not assignment or not any(group.endpoints for group in assignment.localities):
        return {Reason.BLACKHOLE if cluster.discovery is Discovery.STATIC else Reason.NO_ENDPOINT: Fraction(1)}
    kept = Fraction(1)
    for drop in assignment.drops:
        kept *= 1 - Fraction(drop.per_million, 1_000_000)
    balanced = _balance(cluster, assignment) if kept else {}
    if any(_needs_tls(cluster, assignment, result) for result in balanced):
        return _REFUSED
    found = {result: probability * kept for result, probability in balanced.items()}
    return {**found, Reason.OVERLOAD_DROP: 1 - kept}


def _needs_tls(cluster: Cluster, assignment: ClusterLoadAssignment, result: SocketAddress | Reason) -> bool:
    for group in assignment.localities:
        for endpoint in group.endpoints:
            if endpoint.address == result:
                for transport in cluster.transports:
                    if all(pair in endpoint.transport_match for pair in transport.match):
                        return not transport.is_plaintext
                return False
    return False


def _balance(cluster: Cluster, assignment: ClusterLoadAssignment) -> Distribution:
    """One hundredth for each of the draws by which Envoy chooses a priority."""
    highest = max(group.priority for group in assignment.localities if group.endpoints)
    priorities = [
        [group for group in assignment.localities if group.priority == priority] for priority in range(highest + 1)
    ]
    loads, panics = _priority_loads(cluster, assignment, priorities)
    found: defaultdict[SocketAddress | Reason, Fraction] = defaultdict(Fraction)
    for draw in range(1, 101):
        priority, health = _choose_priority(loads, draw)
        kinds = set(Health) if panics[priority] else {health}
        weighted = cluster.is_locality_weighted and not panics[priority]
        picked = _pick(cluster, assignment, priorities[priority], kinds, weighted)
        for result, probability in picked.items():
            found[result] += probability / 100
    return dict(found)


def _choose_priority(loads: dict[tuple[Health, int], int], draw: int) -> tuple[int, Health]:
    reached = 0
    for (health, priority), load in loads.items():
        reached += load
        if draw <= reached:
            return priority, health
    raise AssertionError("loads do not add up to 100")


def _priority_loads(
    cluster: Cluster, assignment: ClusterLoadAssignment, priorities: list[list[LocalityEndpoints]]
) -> tuple[dict[tuple[Health, int], int], list[bool]]:
    """Percent for (health, priority), healthy first as Envoy tries them; and which priorities panic."""
    hosts = [[endpoint for group in groups for endpoint in group.endpoints] for groups in priorities]
    numbers = range(len(hosts))
    counts = [Counter(endpoint.health for endpoint in members) for members in hosts]
    sizes = [len(members) for members in hosts]
    weights = [Counter[Health]() for _ in numbers]
    for i in numbers:
        for endpoint in hosts[i]:
            weights[i][endpoint.health] += endpoint.weight if assignment.weighted_priority_health else 1
    factor = assignment.overprovisioning_factor
    whole = [sum(weights[i].values()) - weights[i][Health.DRAINING] or 1 for i in numbers]
    percent = {
        (health, i): min(100, int(Fraction(factor * weights[i][health], whole[i])))
        for health in (Health.HEALTHY, Health.DEGRADED)
        for i in numbers
    }
    total = min(100, sum(percent.values()))
    threshold = int(100 * (cluster.panic_threshold_percent / 100))
    loads = dict.fromkeys(percent, 0)
    if threshold == 0 and total == 0:
        return {**loads, (Health.HEALTHY, 0): 100}, [False] * len(hosts)
    usable = [counts[i][Health.HEALTHY] + counts[i][Health.DEGRADED] for i in numbers]
    counted = [sizes[i] - counts[i][Health.DRAINING] for i in numbers]
    panics = [total != 100 and (100.0 * usable[i] / counted[i] if counted[i] else 0.0) < threshold for i in numbers]
    if all(panics):
        for i in numbers:
            loads[Health.HEALTHY, i] = 100 * sizes[i] // sum(sizes)
        first = next(i for i in numbers if sizes[i])
        loads[Health.HEALTHY, first] += 100 - sum(loads.values())
        return loads, panics
    if total == 0:
        return {**loads, (Health.HEALTHY, 0): 100}, panics
    left = 100
    for key in loads:
        loads[key] = min(left, percent[key] * 100 // total)
        left -= loads[key]
    loads[next(key for key in loads if percent[key])] += left
    return loads, panics


def _pick(
    cluster: Cluster,
    assignment: ClusterLoadAssignment,
    groups: list[LocalityEndpoints],
    kinds: set[Health],
    is_locality_weighted: bool,
) -> Distribution:
    """Endpoints of one priority. (The first of several with one address is the only one; tests have no others.)"""
    members = {
        group.locality: [endpoint for endpoint in group.endpoints if endpoint.health in kinds] for group in groups
    }
    together = [endpoint for endpoints in members.values() for endpoint in endpoints]
    if not together:
        return {Reason.NO_ENDPOINT: Fraction(1)}
    effective = {
        group.locality: (group.weight or 0)
        * min(
            Fraction(1),
            Fraction(assignment.overprovisioning_factor * len(members[group.locality]), 100 * counted),
        )
        for group in groups
        if (counted := sum(endpoint.health is not Health.DRAINING for endpoint in group.endpoints))
    }
    if not is_locality_weighted or not any(effective.values()):
        return _pick_by_weight(cluster, together)
    found: defaultdict[SocketAddress | Reason, Fraction] = defaultdict(Fraction)
    for locality, weight in effective.items():
        if weight:
            for result, probability in _pick_by_weight(cluster, members[locality]).items():
                found[result] += probability * weight / sum(effective.values())
    return dict(found)


def _pick_by_weight(cluster: Cluster, endpoints: list[Endpoint]) -> Distribution:
    weights = [1 if cluster.lb_policy is LbPolicy.RANDOM else endpoint.weight for endpoint in endpoints]
    return {
        _address_of(endpoint): Fraction(weight, sum(weights))
        for endpoint, weight in zip(endpoints, weights, strict=True)
    }


def _address_of(endpoint: Endpoint) -> SocketAddress:
    assert isinstance(endpoint.address, SocketAddress)
    return endpoint.address
