"""The exact probability of each thing that an image can decide, by following every draw and every ticket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from socket import htons

from kmesh.compiler.reference import Tables, decide
from kmesh.maps.image import MapImage, MapName
from kmesh.model.address import WILDCARD_V4, WILDCARD_V6, Protocol, SocketAddress
from kmesh.records.constants import Action, NodeKind, Reason
from kmesh.records.layout import CELL, ENTRY, FRONTEND_KEY, NODE
from tests.support.records import frontend, key64

__all__ = ["Distribution", "Result", "measure"]

Result = SocketAddress | Reason
"""A backend's address; PASSED or NOT_MESH; or why the connection is refused."""
Distribution = dict[Result, Fraction]

_DRAWS = 1 << 32


def measure(
    image: MapImage, destination: SocketAddress, protocol: Protocol = Protocol.TCP, *, is_ipv6_socket: bool = True
) -> Distribution:
    """Probabilities that add up to 1. Tickets of a cursor are taken as evenly likely."""
    tables = image.tables()
    wildcard = WILDCARD_V4 if destination.is_v4 else WILDCARD_V6
    tries = [(destination.addr16, destination.port), (wildcard, destination.port)]
    tries += [(wildcard, 0)] if protocol is Protocol.TCP else []
    for addr16, port in tries:
        cell = tables[MapName.FRONTEND].get(FRONTEND_KEY.pack(addr16, htons(port), protocol))
        if cell:
            break
    else:
        return {Reason.NOT_MESH: Fraction(1)}
    target, action, _, _ = CELL.struct.unpack(cell)
    leaves: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for leaf, probability in _follow(tables, action, target, 0):
        leaves[leaf] += probability
    found: defaultdict[Result, Fraction] = defaultdict(Fraction)
    for leaf, probability in leaves.items():
        found[_end(tables, leaf, destination, is_ipv6_socket)] += probability
    return dict(found)


def _follow(tables: Tables, action: int, target: int, ticket: int) -> Iterator[tuple[tuple[int, int], Fraction]]:
    """Every (action, target) that ends the descent, and how likely it is."""
    if action == Action.CLUSTER:
        target, action, _, _ = CELL.struct.unpack(tables[MapName.CLUSTER][key64(target)])
        yield from _follow(tables, action, target, ticket)
    elif action == Action.NODE:
        for (index_action, index_target), rest, probability in _branches(tables, target, ticket):
            for leaf, below in _follow(tables, index_action, index_target, rest):
                yield leaf, probability * below
    else:
        yield (action, target), Fraction(1)


def _branches(tables: Tables, node: int, ticket: int) -> Iterator[tuple[tuple[int, int], int, Fraction]]:
    kind, count, total, stride, _, packed = NODE.struct.unpack(tables[MapName.NODE][key64(node)])
    entries = list(ENTRY.struct.iter_unpack(packed))
    if kind == NodeKind.ALIAS:
        for index in range(count):
            threshold, alias, _, _ = entries[index]
            share = Fraction(-(-(index + 1) * _DRAWS // count) - -(-index * _DRAWS // count), _DRAWS)
            stay = Fraction(threshold + 1, _DRAWS)
            yield entries[index][2:], ticket, share * stay
            if stay != 1:
                yield entries[alias][2:], ticket, share * (1 - stay)
        return
    tickets = range(total) if kind == NodeKind.CURSOR else [ticket]
    for number in tickets:
        index, rest = divmod(number, stride)
        assert index < count
        yield entries[index][2:], rest, Fraction(1, len(tickets))


def _end(tables: Tables, leaf: tuple[int, int], destination: SocketAddress, is_ipv6_socket: bool) -> Result:
    """What the reference interpreter makes of one leaf."""
    action, target = leaf
    _, key, cell = frontend(destination, Action(action), target)
    leaf_tables = {**tables, MapName.FRONTEND: {key: cell}}
    decision = decide(
        leaf_tables,
        destination,
        Protocol.TCP,
        is_ipv6_socket=is_ipv6_socket,
        draw=lambda: 0,
        cursors={},
    )
    return decision.address or decision.reason
