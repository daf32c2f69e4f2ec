"""One request, from the bytes of its head to the cluster that takes it, or to why the relay carries it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

from kmesh.compiler.interpreter.authority import find_virtual_host, read_authority
from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.decision import TakenRoute, find_route
from kmesh.compiler.interpreter.descent import Descent, Tables, descend, read_cell
from kmesh.compiler.interpreter.handed_over import HandedOver, read_reason
from kmesh.compiler.interpreter.head import Head, read_head
from kmesh.maps.image import MapName
from kmesh.records.constants import Action, Field, Handover
from kmesh.records.layout import ID, ROUTES

__all__ = ["Matched", "match_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    handover: Handover = Handover.NONE
    """NONE: `route` and `cluster` are the request's; they are 0 otherwise."""
    route: int = 0
    """Its place in the virtual host, from 0."""
    cluster: int = 0
    """Its id."""


def match_request(
    tables: Tables,
    routing: int,
    received: bytes,
    *,
    port: int,
    draw: Callable[[], int],
    cursors: MutableMapping[int, int],
) -> Matched:
    """What becomes of the request at the start of `received`, on a connection to `port`, under a routing unit.

    `draw` and `cursors` are as in kmesh.compiler.reference.decide.
    """
    descent = Descent(tables=tables, draw=draw, cursors=cursors)
    try:
        route = _find_route(descent, routing, received, port)
        return Matched(route=route.route, cluster=_find_cluster(descent, route))
    except HandedOver as why:
        return Matched(handover=why.reason)
    except Broken:
        return Matched(handover=Handover.BROKEN)


def _find_route(descent: Descent, routing: int, received: bytes, port: int) -> TakenRoute:
    tables = descent.tables
    automaton, domains, wildcards, flags, relayed_marks = _read_routes(tables, routing)
    head = read_head(tables[MapName.PAGE], automaton, received)
    if isinstance(head, Handover):
        raise HandedOver(head)
    if head.marks & relayed_marks:
        raise HandedOver(Handover.NORMALIZE)
    values = _collect(head, received)
    authority = read_authority(values.get(Field.AUTHORITY, []), flags, port)
    values[Field.AUTHORITY] = [authority.value]
    link = find_virtual_host(tables, domains, wildcards, authority.host)
    return find_route(tables, link, values, descent.draw)


def _read_routes(tables: Tables, routing: int) -> tuple[int, int, int, int, int]:
    """The values of ROUTES, in order."""
    way = read_cell(tables[MapName.ROUTING], ID.pack(routing))
    if way is None or way[0] != Action.ROUTES:
        raise Broken(f"routing unit {routing:#x} leads to no routes")
    record = tables[MapName.ROUTES].get(ID.pack(way[1]))
    if record is None:
        raise Broken(f"no routes {way[1]:#x}")
    head, domains, wildcards, flags, relayed_marks, _ = ROUTES.struct.unpack(record)
    return head, domains, wildcards, flags, relayed_marks


def _collect(head: Head, received: bytes) -> dict[int, list[bytes]]:
    """The values of each field, in the order of the head."""
    values: dict[int, list[bytes]] = {}
    for number, start, length in head.fields:
        values.setdefault(number, []).append(received[start : start + length])
    return values


def _find_cluster(descent: Descent, route: TakenRoute) -> int:
    """The id of the cluster that a route sends this request to."""
    if route.action == Action.HANDOVER:
        raise HandedOver(read_reason(route.target))
    action, target = descend(descent, route.action, route.target, through=(Action.NODE,))
    if action != Action.CLUSTER:
        raise Broken(f"a route that ends in action {action}")
    return target
