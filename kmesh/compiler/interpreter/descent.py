"""Cells and nodes: what connections and requests are chosen by alike. The steps are kmesh.compiler.reference's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass

from kmesh.compiler.interpreter.broken import Broken
from kmesh.maps.image import MapName
from kmesh.records.constants import LIMITS, Action, NodeKind
from kmesh.records.layout import CELL, ENTRY, ID, NODE
from kmesh.records.seal import seal

__all__ = ["Descent", "Tables", "descend", "read_cell"]

Tables = Mapping[MapName, Mapping[bytes, bytes]]
"""As MapImage.tables() gives them."""

_U64 = (1 << 64) - 1


@dataclass(slots=True, kw_only=True)
class Descent:
    """What one choice reads and changes."""

    tables: Tables
    draw: Callable[[], int]
    cursors: MutableMapping[int, int]
    ticket: int = 0


def read_cell(table: Mapping[bytes, bytes], key: bytes) -> tuple[int, int] | None:
    """(action, target). In an image a broken seal stays broken, so one try is all of them."""
    value = table.get(key)
    if value is None:
        return None
    target, action, _, sealed = CELL.struct.unpack(value)
    if sealed != seal(key, target, action):
        raise Broken
    return action, target


def descend(descent: Descent, action: int, target: int, *, through: tuple[Action, ...]) -> tuple[int, int]:
    """The first (action, target) that is not one of `through`, which are CLUSTER and NODE at most."""
    for _ in range(LIMITS["TREE_DEPTH"]):
        if action not in through:
            break
        action, target = _choose(descent, target) if action == Action.NODE else _follow_cluster(descent, target)
    if action in through:
        raise Broken
    return action, target


def _follow_cluster(descent: Descent, cluster: int) -> tuple[int, int]:
    way = read_cell(descent.tables[MapName.CLUSTER], ID.pack(cluster))
    if way is None:
        raise Broken
    return way


def _choose(descent: Descent, node: int) -> tuple[int, int]:
    """The (action, target) of the entry that one node chooses."""
    record = descent.tables[MapName.NODE].get(ID.pack(node))
    if record is None:
        raise Broken
    kind, count, total, stride, cursor, entries = NODE.struct.unpack(record)
    if kind == NodeKind.ALIAS:
        index = descent.draw() * count >> 32
        threshold, alias, _, _ = _entry(entries, index)
        if descent.draw() > threshold:
            index = alias
    else:
        if not stride or kind not in (NodeKind.CURSOR, NodeKind.INDEX):
            raise Broken
        if kind == NodeKind.CURSOR:
            descent.ticket = _take_ticket(descent, cursor, total)
        index, descent.ticket = divmod(descent.ticket, stride)
        if index >= count:
            raise Broken
    _, _, action, target = _entry(entries, index)
    return action, target


def _entry(entries: bytes, index: int) -> tuple[int, int, int, int]:
    """(threshold, alias, action, target)."""
    if index >= LIMITS["NODE_FANOUT"]:
        raise Broken
    threshold, alias, action, target = ENTRY.struct.unpack_from(entries, index * ENTRY.size)
    return threshold, alias, action, target


def _take_ticket(descent: Descent, cursor: int, total: int) -> int:
    initial = descent.tables[MapName.CURSOR].get(ID.pack(cursor))
    if initial is None or not total:
        raise Broken
    number = descent.cursors.get(cursor, int.from_bytes(initial, "little"))
    descent.cursors[cursor] = (number + 1) & _U64
    return number % total
