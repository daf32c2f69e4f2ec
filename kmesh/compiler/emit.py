"""IR -> records: the last step, one Fragment for each unit.

Nodes and backends are keyed by their content, so a tree is written bottom up and equal parts have equal keys, today
and after a restart. How far an edit reaches is decided here, for endpoints that come, go or change weight:

- Spread: endpoints in the order of their backend ids, cut into blocks (kmesh.compiler.blocks): a constant number of
  nodes for each level of the tree, of which there are about log64(endpoints).
- Rotate: tickets in the order of backend ids, 64 to a node. A ticket's place is its number, so the tickets behind an
  edit move: at most every node of that one round, ceil(tickets / 64) of them and 1/63 as many above.

Both then rewrite the nodes on the way to the root, and the cluster's cell. No other cluster, no listener.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from socket import htons

from kmesh.compiler.blocks import cut_blocks
from kmesh.compiler.choice_nodes import FANOUT, Way, write_alias_tier, write_node, write_weighted
from kmesh.compiler.ir import (
    Choice,
    ClusterUnit,
    Frontend,
    ListenerUnit,
    Pass,
    Refuse,
    Rotate,
    Share,
    Spread,
    ToCluster,
    ToRoutes,
    Weighted,
)
from kmesh.compiler.schedule import schedule_round
from kmesh.errors import Unsupported
from kmesh.maps.image import Fragment, MapName
from kmesh.model.address import V4_MAPPED, SocketAddress
from kmesh.model.endpoint import Endpoint
from kmesh.records.constants import LIMITS, Action, Family, NodeKind
from kmesh.records.digest import content_id, name_id
from kmesh.records.layout import BACKEND, CELL, FRONTEND_KEY, ID
from kmesh.records.seal import seal

__all__ = ["CLUSTER_DEPTH", "LISTENER_DEPTH", "emit_cluster", "emit_listener"]

LISTENER_DEPTH = 2
"""Nodes on one path from a frontend to its clusters."""
CLUSTER_DEPTH = LIMITS["TREE_DEPTH"] - LISTENER_DEPTH - 1
"""Nodes on one path from a cluster to a backend: the rest of the steps, but for the cluster's own cell."""

_NO_V4, _NO_V6 = bytes(4), bytes(16)
_V4, _V6, _BACKEND = int(Family.V4), int(Family.V6), int(Action.BACKEND)
_pack = BACKEND.struct.pack  # in field order, pads included: it runs per endpoint


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Collects the records of one unit, each once."""

    unit: str
    records: dict[MapName, dict[bytes, bytes]] = field(default_factory=lambda: {name: {} for name in MapName})

    def fragment(self) -> Fragment:
        return Fragment({name: table for name, table in self.records.items() if table})


def emit_listener(unit: ListenerUnit) -> Fragment:
    """Raises: Unsupported when its choice is deeper than the kernel follows."""
    writer = _Writer(unit=unit.name)
    for frontend in unit.frontends:
        way = _write(writer, frontend.choice)
        if way.depth > LISTENER_DEPTH:
            feature = f"more weighted clusters than {LISTENER_DEPTH} levels of {FANOUT}"
            raise Unsupported(feature, "weighted_clusters")
        _write_cell(writer, MapName.FRONTEND, _pack_frontend_key(frontend), way)
    return writer.fragment()


def emit_cluster(unit: ClusterUnit) -> Fragment:
    """Raises: Unsupported when its choice is deeper than the kernel follows."""
    writer = _Writer(unit=unit.name)
    way = _write(writer, unit.choice)
    if way.depth > CLUSTER_DEPTH:
        raise Unsupported(f"more endpoints or localities than {CLUSTER_DEPTH} levels of {FANOUT}", "endpoints")
    _write_cell(writer, MapName.CLUSTER, ID.pack(name_id("cluster", unit.name)), way)
    return writer.fragment()


def _write(writer: _Writer, choice: Choice) -> Way:
    """Write what is under a choice and say how to get there."""
    match choice:
        case Refuse(reason):
            return Way(int(Action.REFUSE), int(reason))
        case Pass():
            return Way(int(Action.PASS), 0)
        case ToCluster(name):
            return Way(int(Action.CLUSTER), name_id("cluster", name))
        case ToRoutes(routing):
            return Way(int(Action.ROUTES), name_id("routes", routing.name))
        case Weighted(shares):
            return _write_weighted(writer, shares)
        case Spread() as spread:
            return _write_spread(writer, spread)
        case Rotate() as rotate:
            return _write_rotate(writer, rotate)
        case _:
            raise AssertionError(f"a pass left {type(choice).__name__}")


def _write_weighted(writer: _Writer, shares: Sequence[Share]) -> Way:
    ways = [_write(writer, share.choice) for share in shares]
    return write_weighted(writer.records[MapName.NODE], ways, [share.weight for share in shares])


def _write_spread(writer: _Writer, spread: Spread) -> Way:
    keys, weights = _write_backends(writer, spread.endpoints)
    if not spread.is_weighted:
        weights = [1] * len(weights)
    ways = [Way(_BACKEND, backend) for backend in keys]
    while len(ways) > 1:
        blocks = cut_blocks(keys, FANOUT)
        ways, weights = write_alias_tier(writer.records[MapName.NODE], ways, weights, blocks)
        keys = [keys[start] for start, _ in blocks]
    return ways[0]


def _write_rotate(writer: _Writer, rotate: Rotate) -> Way:
    backends, weights = _write_backends(writer, rotate.endpoints)
    tickets = schedule_round(weights)
    ways = [Way(_BACKEND, backends[index]) for index in tickets]
    nodes = writer.records[MapName.NODE]
    stride = 1
    while len(ways) > FANOUT:
        ways = [
            write_node(nodes, ways[start : start + FANOUT], NodeKind.INDEX, stride=stride)
            for start in range(0, len(ways), FANOUT)
        ]
        stride *= FANOUT
    cursor = name_id("cursor", f"{writer.unit}\0{rotate.group}")
    writer.records[MapName.CURSOR][ID.pack(cursor)] = ID.pack(0)
    return write_node(nodes, ways, NodeKind.CURSOR, stride=stride, total=len(tickets), cursor=cursor)


def _write_backends(writer: _Writer, endpoints: Sequence[Endpoint]) -> tuple[list[int], list[int]]:
    """Ids in order, and the weight of each. The id is a hash of the address, so the order is anyone's and stays."""
    cluster = name_id("cluster", writer.unit)
    rows = []
    for endpoint in endpoints:
        record = _pack_backend(endpoint, cluster)
        rows.append((content_id(record), endpoint.weight, record))
    rows.sort()
    writer.records[MapName.BACKEND].update((ID.pack(backend), record) for backend, _, record in rows)
    return [backend for backend, _, _ in rows], [weight for _, weight, _ in rows]


def _pack_backend(endpoint: Endpoint, cluster: int) -> bytes:
    address = endpoint.address
    assert isinstance(address, SocketAddress), "a snapshot has only resolved endpoints"
    if endpoint.additional:
        return _pack_dual_stack((address, *endpoint.additional), cluster)
    if address.addr16.startswith(V4_MAPPED):
        return _pack(_NO_V6, address.addr16[12:], 0, htons(address.port), _V4, 0, cluster)
    return _pack(address.addr16, _NO_V4, htons(address.port), 0, _V6, 0, cluster)


def _pack_dual_stack(addresses: Sequence[SocketAddress], cluster: int) -> bytes:
    """The first address of each family."""
    v4 = next((address for address in addresses if address.is_v4), None)
    v6 = next((address for address in addresses if not address.is_v4), None)
    return _pack(
        v6.addr16 if v6 else _NO_V6,
        v4.addr16[12:] if v4 else _NO_V4,
        htons(v6.port) if v6 else 0,
        htons(v4.port) if v4 else 0,
        (_V4 if v4 else 0) | (_V6 if v6 else 0),
        0,
        cluster,
    )


def _pack_frontend_key(frontend: Frontend) -> bytes:
    return FRONTEND_KEY.pack(frontend.addr16, htons(frontend.port), frontend.protocol)


def _write_cell(writer: _Writer, map_name: MapName, key: bytes, way: Way) -> None:
    value = CELL.pack(way.target, way.action, seal(key, way.target, way.action))
    writer.records[map_name][key] = value
