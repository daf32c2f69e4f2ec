"""Nodes: records that choose among up to 64 ways, and trees of them that choose among more.

A node is keyed by its content, so a tree is written bottom up and equal parts are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kmesh.compiler.alias import ALWAYS, make_alias_table
from kmesh.records.constants import LIMITS, Action, NodeKind
from kmesh.records.digest import content_id
from kmesh.records.layout import ENTRY, ID, NODE

__all__ = ["FANOUT", "Nodes", "Way", "write_alias_tier", "write_node", "write_weighted"]

FANOUT = LIMITS["NODE_FANOUT"]
Nodes = dict[bytes, bytes]
"""{key: value}, to which what is written is added."""

_EVEN = [(ALWAYS, index) for index in range(FANOUT)]
"""The alias table of equal weights."""
_NO_TABLE = [(0, 0)] * FANOUT
_pack_entry = ENTRY.struct.pack  # in field order: it runs per endpoint


class Way(NamedTuple):
    """Where an entry leads. A tuple, since there is one for each endpoint."""

    action: int
    target: int
    depth: int = 0
    """Nodes on the longest path from here."""


def write_weighted(nodes: Nodes, ways: Sequence[Way], weights: Sequence[int]) -> Way:
    """One of the ways at random by weight; tiers of nodes, 64 ways to each, in order."""
    tier, weighed = list(ways), list(weights)
    while len(tier) > 1:
        blocks = [(start, start + FANOUT) for start in range(0, len(tier), FANOUT)]
        tier, weighed = write_alias_tier(nodes, tier, weighed, blocks)
    return tier[0]


def write_alias_tier(
    nodes: Nodes, ways: list[Way], weights: list[int], blocks: list[tuple[int, int]]
) -> tuple[list[Way], list[int]]:
    """One node for each block, and the weight of each."""
    tier = [
        write_node(nodes, ways[start:end], NodeKind.ALIAS, table=_make_table(weights[start:end]))
        for start, end in blocks
    ]
    return tier, [sum(weights[start:end]) for start, end in blocks]


def write_node(
    nodes: Nodes,
    ways: list[Way],
    kind: NodeKind,
    *,
    table: list[tuple[int, int]] = _NO_TABLE,
    total: int = 0,
    stride: int = 0,
    cursor: int = 0,
) -> Way:
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
    nodes[ID.pack(node)] = record
    return Way(int(Action.NODE), node, 1 + max(way.depth for way in ways))


def _make_table(weights: list[int]) -> list[tuple[int, int]]:
    if len(set(weights)) == 1:
        return _EVEN[: len(weights)]
    return make_alias_table(weights)
