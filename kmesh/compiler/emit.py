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
from struct import Struct
from typing import NamedTuple

from kmesh.compiler.alias import ALWAYS, make_alias_table
from kmesh.compiler.blocks import cut_blocks
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
from kmesh.records.constants import LIMITS, Action, Family, NodeKind, Reason
from kmesh.records.digest import content_id, name_id
from kmesh.records.layout import BACKEND, CELL, ENTRY, FRONTEND_KEY, NODE
from kmesh.records.seal import seal

__all__ = ["CLUSTER_DEPTH", "LISTENER_DEPTH", "emit_cluster", "emit_listener"]

LISTENER_DEPTH = 2
"""Nodes on one path from a frontend to its clusters."""
CLUSTER_DEPTH = LIMITS["TREE_DEPTH"] - LISTENER_DEPTH - 1
"""Nodes on one path from a cluster to a backend: the rest of the steps, but for the cluster's own cell."""

_FANOUT = LIMITS["NODE_FANOUT"]
_ID = Struct("<Q")
_EVEN = [(ALWAYS, index) for index in range(_FANOUT)]
"""The alias table of equal weights."""
_NO_TABLE = [(0, 0)] * _FANOUT
_NO_V4, _NO_V6 = bytes(4), bytes(16)
_V4, _V6, _BACKEND = int(Family.V4), int(Family.V6), int(Action.BACKEND)
_pack, _pack_entry = BACKEND.struct.pack, ENTRY.struct.pack  # in field order, pads included: these run per endpoint


class _Way(NamedTuple):
    """A tuple, since there is one for each endpoint."""

    action: int
    target: int
    depth: int = 0
    """Nodes on the longest path from here."""


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
            feature = f"more weighted clusters than {LISTENER_DEPTH} levels of {_FANOUT}"
            raise Unsupported(feature, "weighted_clusters")
        _write_cell(writer, MapName.FRONTEND, _pack_frontend_key(frontend), way)
    return writer.fragment()


def emit_cluster(unit: ClusterUnit) -> Fragment:
    """Raises: Unsupported when its choice is deeper than the kernel follows."""
    writer = _Writer(unit=unit.name)
    way = _write(writer, unit.choice)
    if way.depth > CLUSTER_DEPTH:
        raise Unsupported(f"more endpoints or localities than {CLUSTER_DEPTH} levels of {_FANOUT}", "endpoints")
    _write_cell(writer, MapName.CLUSTER, _ID.pack(name_id("cluster", unit.name)), way)
    return writer.fragment()


def _write(writer: _Writer, choice: Choice) -> _Way:
    """Write what is under a choice and say how to get there."""
    match choice:
        case Refuse(reason):
            return _Way(int(Action.REFUSE), int(reason))
        case Pass():
            return _Way(int(Action.PASS), 0)
        case ToCluster(name):
            return _Way(int(Action.CLUSTER), name_id("cluster", name))
        case ToRoutes():  # until requests are carried one by one
            return _Way(int(Action.REFUSE), int(Reason.UNSUPPORTED))
        case Weighted(shares):
            return _write_weighted(writer, shares)
        case Spread() as spread:
            return _write_spread(writer, spread)
        case Rotate() as rotate:
            return _write_rotate(writer, rotate)
        case _:
            raise AssertionError(f"a pass left {type(choice).__name__}")


def _write_weighted(writer: _Writer, shares: Sequence[Share]) -> _Way:
    ways = [_write(writer, share.choice) for share in shares]
    weights = [share.weight for share in shares]
    while len(ways) > 1:
        blocks = [(start, start + _FANOUT) for start in range(0, len(ways), _FANOUT)]
        ways, weights = _write_alias_tier(writer, ways, weights, blocks)
    return ways[0]


def _write_spread(writer: _Writer, spread: Spread) -> _Way:
    keys, weights = _write_backends(writer, spread.endpoints)
    if not spread.is_weighted:
        weights = [1] * len(weights)
    ways = [_Way(_BACKEND, backend) for backend in keys]
    while len(ways) > 1:
        blocks = cut_blocks(keys, _FANOUT)
        ways, weights = _write_alias_tier(writer, ways, weights, blocks)
        keys = [keys[start] for start, _ in blocks]
    return ways[0]


def _write_rotate(writer: _Writer, rotate: Rotate) -> _Way:
    backends, weights = _write_backends(writer, rotate.endpoints)
    tickets = schedule_round(weights)
    ways = [_Way(_BACKEND, backends[index]) for index in tickets]
    stride = 1
    while len(ways) > _FANOUT:
        ways = [
            _write_node(writer, ways[start : start + _FANOUT], NodeKind.INDEX, stride=stride)
            for start in range(0, len(ways), _FANOUT)
        ]
        stride *= _FANOUT
    cursor = name_id("cursor", f"{writer.unit}\0{rotate.group}")
    writer.records[MapName.CURSOR][_ID.pack(cursor)] = _ID.pack(0)
    return _write_node(writer, ways, NodeKind.CURSOR, stride=stride, total=len(tickets), cursor=cursor)


def _write_alias_tier(
    writer: _Writer, ways: list[_Way], weights: list[int], blocks: list[tuple[int, int]]
) -> tuple[list[_Way], list[int]]:
    """One node for each block, and the weight of each."""
    nodes = [
        _write_node(writer, ways[start:end], NodeKind.ALIAS, table=_make_table(weights[start:end]))
        for start, end in blocks
    ]
    return nodes, [sum(weights[start:end]) for start, end in blocks]


def _make_table(weights: list[int]) -> list[tuple[int, int]]:
    if len(set(weights)) == 1:
        return _EVEN[: len(weights)]
    return make_alias_table(weights)


def _write_node(
    writer: _Writer,
    ways: list[_Way],
    kind: NodeKind,
    *,
    table: list[tuple[int, int]] = _NO_TABLE,
    total: int = 0,
    stride: int = 0,
    cursor: int = 0,
) -> _Way:
    """The way through a new node, or the only way itself: what is left of a ticket fits the nodes below it."""
    if len(ways) == 1:
        return ways[0]
    entries = b"".join(
        [
            _pack_entry(threshold, alias, way.action, way.target)
            for (threshold, alias), way in zip(table, ways, strict=False)
        ]
    )
    record = NODE.struct.pack(kind, len(ways), total, stride, cursor, entries)
    node = content_id(record)
    writer.records[MapName.NODE][_ID.pack(node)] = record
    return _Way(int(Action.NODE), node, 1 + max(way.depth for way in ways))


def _write_backends(writer: _Writer, endpoints: Sequence[Endpoint]) -> tuple[list[int], list[int]]:
    """Ids in order, and the weight of each. The id is a hash of the address, so the order is anyone's and stays."""
    cluster = name_id("cluster", writer.unit)
    rows = []
    for endpoint in endpoints:
        record = _pack_backend(endpoint, cluster)
        rows.append((content_id(record), endpoint.weight, record))
    rows.sort()
    writer.records[MapName.BACKEND].update((_ID.pack(backend), record) for backend, _, record in rows)
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


def _write_cell(writer: _Writer, map_name: MapName, key: bytes, way: _Way) -> None:
    value = CELL.pack(way.target, way.action, seal(key, way.target, way.action))
    writer.records[map_name][key] = value
