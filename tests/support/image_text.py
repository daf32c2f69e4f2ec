"""Every field of every record of an image as stable text, for golden files."""

from __future__ import annotations

from collections.abc import Iterator
from socket import ntohs

from kmesh.maps.decode import Names, describe_record, name_units, print_record
from kmesh.maps.image import MapImage, MapName
from kmesh.model.address import V4_MAPPED, Protocol, SocketAddress
from kmesh.records.constants import Action, Family, NodeKind, Reason
from kmesh.records.layout import BACKEND, CELL, ENTRY, FRONTEND_KEY, NODE

__all__ = ["print_image"]


def print_image(image: MapImage) -> str:
    clusters = name_units(image)
    return "".join(
        f"{line}\n"
        for name, table in image.tables().items()
        for key in sorted(table)
        for line in _print_record(name, key, table[key], clusters)
    )


def _print_record(name: MapName, key: bytes, value: bytes, clusters: dict[int, str]) -> Iterator[str]:
    number = int.from_bytes(key, "little")
    match name:
        case MapName.FRONTEND:
            addr16, port_be, protocol, _ = FRONTEND_KEY.struct.unpack(key)
            asked = f"{SocketAddress(addr16, ntohs(port_be))}/{Protocol(protocol).name.lower()}"
            yield f"frontend {asked} -> {_print_cell(value, clusters)}"
        case MapName.CLUSTER:
            yield f"cluster {number:016x} {clusters[number]} -> {_print_cell(value, clusters)}"
        case MapName.NODE:
            yield from _print_node(number, value, clusters)
        case MapName.BACKEND:
            addr6, addr4, port6_be, port4_be, families, _, cluster = BACKEND.struct.unpack(value)
            v4 = [str(SocketAddress(V4_MAPPED + addr4, ntohs(port4_be)))] if families & Family.V4 else []
            v6 = [str(SocketAddress(addr6, ntohs(port6_be)))] if families & Family.V6 else []
            yield f"backend {number:016x} {' '.join(v4 + v6)} of {clusters[cluster]}"
        case MapName.CURSOR:
            yield f"cursor {number:016x} starts at {int.from_bytes(value, 'little')}"
        case _:  # of requests: a page's content shows in its automaton's id, and all else in full
            record = describe_record(name, key, value, Names(units=clusters, backends={}))
            first, *more = print_record(name, record)
            yield f"{name.value.removeprefix('km_')} {first}"
            yield from more


def _print_cell(value: bytes, clusters: dict[int, str]) -> str:
    target, action, _, _ = CELL.struct.unpack(value)
    return _print_way(action, target, clusters)


def _print_node(number: int, value: bytes, clusters: dict[int, str]) -> Iterator[str]:
    kind, count, total, stride, cursor, entries = NODE.struct.unpack(value)
    turns = f" total {total} stride {stride} cursor {cursor:016x}" if stride else ""
    yield f"node {number:016x} {NodeKind(kind).name} of {count}{turns}"
    for index, (threshold, alias, action, target) in enumerate(ENTRY.struct.iter_unpack(entries)):
        if index < count:
            draw = f" <= {threshold:08x} else {alias}" if kind == NodeKind.ALIAS else ""
            yield f"  {index}{draw} -> {_print_way(action, target, clusters)}"


def _print_way(action: int, target: int, clusters: dict[int, str]) -> str:
    match Action(action):
        case Action.CLUSTER:
            return f"cluster {clusters[target]}"
        case Action.REFUSE:
            return f"refuse {Reason(target).name.lower()}"
        case Action.PASS | Action.NONE:
            return Action(action).name.lower()
        case Action.NODE | Action.BACKEND:
            return f"{Action(action).name.lower()} {target:016x}"
