"""Reads records for people: one map element in, a description of plain values or a few lines of text out.

Pure. An action, kind or reason that has no name is shown as its number, because a dump is asked for when something
is wrong. What the records look like is in kmesh.records.layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from socket import ntohs
from typing import Any

from kmesh.maps.image import MapImage, MapName
from kmesh.model.address import V4_MAPPED, Protocol, SocketAddress
from kmesh.records.constants import Action, Family, NodeKind, Reason
from kmesh.records.digest import name_id
from kmesh.records.layout import BACKEND, CLUSTER, ENTRY, FRONTEND, FRONTEND_KEY, NODE
from kmesh.records.seal import seal

__all__ = ["Description", "Names", "describe_record", "name_clusters", "print_record"]

Description = dict[str, Any]
"""Strings, numbers, booleans, and lists of those or of Descriptions; ids as 16 hex digits."""

Unpacked = Mapping[str, Any]
"""What a kmesh.records.layout.Record unpacks to: int, or bytes for byte strings and arrays of records."""


def name_clusters(image: MapImage) -> dict[int, str]:
    """The names behind the cluster ids of an image."""
    return {name_id(kind, name): name for kind, name in image.fragments if kind == "cluster"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What ids are called."""

    clusters: Mapping[int, str]
    backends: Mapping[bytes, bytes]
    """The elements of the map of backends."""

    def of_cluster(self, number: int) -> str:
        return self.clusters.get(number) or _hex(number)

    def of_backend(self, number: int) -> str:
        """Its addresses and id, or the id alone when there is no such backend."""
        value = self.backends.get(number.to_bytes(8, "little"))
        return " ".join([*_list_addresses(BACKEND.unpack(value)), _hex(number)]) if value else _hex(number)


def describe_record(map_name: MapName, key: bytes, value: bytes, names: Names) -> Description:
    """One element, decoded."""
    number = int.from_bytes(key, "little")  # meaningless for a frontend, the id of all others
    match map_name:
        case MapName.FRONTEND:
            return _describe_frontend(key, FRONTEND.unpack(value), names)
        case MapName.CLUSTER:
            return _describe_cluster(key, CLUSTER.unpack(value), names)
        case MapName.NODE:
            return {"id": _hex(number), **_describe_node(NODE.unpack(value), names)}
        case MapName.BACKEND:
            return {"id": _hex(number), **_describe_backend(BACKEND.unpack(value), names)}
        case MapName.CURSOR:
            return {"id": _hex(number), "count": int.from_bytes(value, "little")}
        case _:
            return {"id": _hex(number), "bytes": len(value)}


def print_record(map_name: MapName, record: Description) -> Iterator[str]:
    """A description as text: one line, and for a node one more for each entry."""
    match map_name:
        case MapName.FRONTEND:
            yield f"{record['address']}/{record['protocol']} {_arrow(record)}{_print_seal(record)}"
        case MapName.CLUSTER:
            yield f"{record['cluster'] or '?'} {record['id']} {_arrow(record)}{_print_seal(record)}"
        case MapName.NODE:
            yield from _print_node(record)
        case MapName.BACKEND:
            yield f"{record['id']} {' '.join(record['addresses']) or 'no address'} of {record['cluster']}"
        case MapName.CURSOR:
            yield f"{record['id']} at {record['count']}"
        case _:
            yield f"{record['id']} of {record['bytes']} bytes"


def _describe_frontend(key: bytes, cell: Unpacked, names: Names) -> Description:
    asked: Unpacked = FRONTEND_KEY.unpack(key)
    return {
        "address": str(SocketAddress(asked["addr16"], ntohs(asked["port_be"]))),
        "protocol": _name(Protocol, asked["protocol"]).lower(),
        **_describe_way(cell, names),
        "is_sealed": _is_sealed(key, cell),
    }


def _describe_cluster(key: bytes, cell: Unpacked, names: Names) -> Description:
    number = int.from_bytes(key, "little")
    return {
        "cluster": names.clusters.get(number, ""),
        "id": _hex(number),
        **_describe_way(cell, names),
        "is_sealed": _is_sealed(key, cell),
    }


def _describe_node(node: Unpacked, names: Names) -> Description:
    used = node["entries"][: node["count"] * ENTRY.size]
    entries: list[Unpacked] = [ENTRY.unpack(used[at : at + ENTRY.size]) for at in range(0, len(used), ENTRY.size)]
    ways = [_describe_way(entry, names) for entry in entries]
    if node["kind"] == NodeKind.ALIAS:
        ways = [{"share": share, **way} for share, way in zip(_alias_shares(entries), ways, strict=True)]
    return {
        "kind": _name(NodeKind, node["kind"]),
        "count": node["count"],
        "total": node["total"],
        "stride": node["stride"],
        "cursor": _hex(node["cursor"]) if node["cursor"] else "",
        "entries": ways,
    }


def _describe_backend(backend: Unpacked, names: Names) -> Description:
    return {"addresses": _list_addresses(backend), "cluster": names.of_cluster(backend["cluster"])}


def _alias_shares(entries: list[Unpacked]) -> list[float]:
    """The chance of each entry, 0 to 1: what it keeps of its own draws and what others leave to it."""
    shares = [0.0] * len(entries)
    for index, entry in enumerate(entries):
        kept = (entry["threshold"] + 1) / 2**32
        shares[index] += kept / len(entries)
        if entry["alias"] < len(entries):
            shares[entry["alias"]] += (1 - kept) / len(entries)
    return [round(share, 9) for share in shares]


def _describe_way(record: Unpacked, names: Names) -> Description:
    """The action and the target that frontends, clusters and entries share."""
    match record["action"]:
        case Action.CLUSTER:
            target = names.of_cluster(record["target"])
        case Action.BACKEND:
            target = names.of_backend(record["target"])
        case Action.REFUSE:
            target = _name(Reason, record["target"])
        case Action.NONE | Action.PASS:
            target = ""
        case _:
            target = _hex(record["target"])
    return {"action": _name(Action, record["action"]), "target": target}


def _list_addresses(backend: Unpacked) -> list[str]:
    addresses = []
    if backend["families"] & Family.V4:
        addresses.append(SocketAddress(V4_MAPPED + backend["addr4_be"], ntohs(backend["port4_be"])))
    if backend["families"] & Family.V6:
        addresses.append(SocketAddress(backend["addr6"], ntohs(backend["port6_be"])))
    return [str(address) for address in addresses]


def _print_node(node: Description) -> Iterator[str]:
    tickets = f", {node['total']} tickets" if node["total"] else ""
    stride = f", {node['stride']} to an entry" if node["stride"] else ""
    cursor = f", counted by {node['cursor']}" if node["cursor"] else ""
    yield f"{node['id']} {node['kind']} of {node['count']}{tickets}{stride}{cursor}"
    for index, entry in enumerate(node["entries"]):
        share = f" {entry['share']:8.3%}" if "share" in entry else ""
        yield f"  {index:2}{share} {_arrow(entry)}"


def _arrow(way: Description) -> str:
    return f"-> {way['action']} {way['target']}".rstrip()


def _print_seal(record: Description) -> str:
    return "" if record["is_sealed"] else " SEAL BROKEN"


def _is_sealed(key: bytes, cell: Unpacked) -> bool:
    return bool(cell["seal"] == seal(key, cell["target"], cell["action"]))


def _name(names: type[IntEnum], number: int) -> str:
    return names(number).name if number in set(names) else str(number)


def _hex(number: int) -> str:
    return f"{number:016x}"
