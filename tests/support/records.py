"""Hand-made map images for tests of the kernel side alone, without the compiler."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from kmesh.maps.image import Fragment, MapImage, MapName, Record
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import Action, Family, NodeKind
from kmesh.records.digest import content_id, name_id
from kmesh.records.layout import BACKEND, CELL, ENTRY, FRONTEND_KEY, NODE
from kmesh.records.seal import seal

__all__ = ["alias_node", "backend", "cluster", "cursor_node", "frontend", "frontend_key", "image", "key64"]

STAY = 2**32 - 1


def key64(number: int) -> bytes:
    return struct.pack("<Q", number)


def frontend_key(address: SocketAddress, protocol: Protocol = Protocol.TCP) -> bytes:
    return FRONTEND_KEY.pack(address.addr16, socket.htons(address.port), protocol)


def _cell(key: bytes, action: Action, target: int) -> bytes:
    return CELL.pack(target, action, seal(key, target, action))


def frontend(address: SocketAddress, action: Action, target: int, protocol: Protocol = Protocol.TCP) -> Record:
    key = frontend_key(address, protocol)
    return MapName.FRONTEND, key, _cell(key, action, target)


def cluster(name: str, action: Action, target: int) -> tuple[int, Record]:
    """The cluster's id, and its cell."""
    number = name_id("cluster", name)
    return number, (MapName.CLUSTER, key64(number), _cell(key64(number), action, target))


def backend(*addresses: SocketAddress, cluster_name: str = "c") -> tuple[int, Record]:
    """The backend's id, and its record, of one address of each family at most."""
    v4 = next((a for a in addresses if a.is_v4), None)
    v6 = next((a for a in addresses if not a.is_v4), None)
    value = BACKEND.pack(
        v6.addr16 if v6 else bytes(16),
        v4.addr16[12:] if v4 else bytes(4),
        socket.htons(v6.port) if v6 else 0,
        socket.htons(v4.port) if v4 else 0,
        (Family.V4 if v4 else 0) | (Family.V6 if v6 else 0),
        name_id("cluster", cluster_name),
    )
    number = content_id(value)
    return number, (MapName.BACKEND, key64(number), value)


def _node(value: bytes) -> tuple[int, Record]:
    number = content_id(value)
    return number, (MapName.NODE, key64(number), value)


def alias_node(entries: Sequence[tuple[int, int, Action, int]]) -> tuple[int, Record]:
    """From (threshold, alias, action, target) rows."""
    packed = b"".join(ENTRY.pack(*row) for row in entries)
    return _node(NODE.pack(NodeKind.ALIAS, len(entries), 0, 0, 0, packed.ljust(64 * ENTRY.size, b"\0")))


def cursor_node(name: str, targets: Sequence[int]) -> tuple[int, list[Record]]:
    """Round robin over backends, with its cursor."""
    cursor = name_id("cursor", name)
    packed = b"".join(ENTRY.pack(0, 0, Action.BACKEND, target) for target in targets)
    row = (NodeKind.CURSOR, len(targets), len(targets), 1, cursor)
    number, record = _node(NODE.pack(*row, packed.ljust(64 * ENTRY.size, b"\0")))
    return number, [record, (MapName.CURSOR, key64(cursor), key64(0))]


def image(**fragments: Sequence[Record]) -> MapImage:
    return MapImage(fragments={("test", name): Fragment.of(records) for name, records in fragments.items()})
