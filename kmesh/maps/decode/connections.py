"""Descriptions of the records that a connection follows: frontend, cluster, node, backend, cursor. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from socket import ntohs

from kmesh.maps.decode.naming import (
    Description,
    Names,
    Unpacked,
    describe_way,
    hexadecimal,
    id_of,
    is_sealed,
    list_addresses,
    name_of,
    print_seal,
    print_way,
)
from kmesh.model.address import Protocol, SocketAddress
from kmesh.records.constants import NodeKind
from kmesh.records.layout import BACKEND, CLUSTER, ENTRY, FRONTEND, FRONTEND_KEY, NODE

__all__ = ["describe_backend", "describe_cluster", "describe_cursor", "describe_frontend", "describe_node"]
__all__ += ["print_backend", "print_cluster", "print_cursor", "print_frontend", "print_node"]


def describe_frontend(key: bytes, value: bytes, names: Names) -> Description:
    asked: Unpacked = FRONTEND_KEY.unpack(key)
    cell: Unpacked = FRONTEND.unpack(value)
    return {
        "address": str(SocketAddress(asked["addr16"], ntohs(asked["port_be"]))),
        "protocol": name_of(Protocol, asked["protocol"]).lower(),
        **describe_way(cell, names),
        "is_sealed": is_sealed(key, cell),
    }


def print_frontend(record: Description) -> str:
    return f"{record['address']}/{record['protocol']} {print_way(record)}{print_seal(record)}"


def describe_cluster(key: bytes, value: bytes, names: Names) -> Description:
    number, cell = id_of(key), CLUSTER.unpack(value)
    return {
        "cluster": names.units.get(number, ""),
        "id": hexadecimal(number),
        **describe_way(cell, names),
        "is_sealed": is_sealed(key, cell),
    }


def print_cluster(record: Description) -> str:
    return f"{record['cluster'] or '?'} {record['id']} {print_way(record)}{print_seal(record)}"


def describe_node(key: bytes, value: bytes, names: Names) -> Description:
    node: Unpacked = NODE.unpack(value)
    used = node["entries"][: node["count"] * ENTRY.size]
    entries: list[Unpacked] = [ENTRY.unpack(used[at : at + ENTRY.size]) for at in range(0, len(used), ENTRY.size)]
    ways = [describe_way(entry, names) for entry in entries]
    if node["kind"] == NodeKind.ALIAS:
        ways = [{"share": share, **way} for share, way in zip(_alias_shares(entries), ways, strict=True)]
    return {
        "id": hexadecimal(id_of(key)),
        "kind": name_of(NodeKind, node["kind"]),
        "count": node["count"],
        "total": node["total"],
        "stride": node["stride"],
        "cursor": hexadecimal(node["cursor"]) if node["cursor"] else "",
        "entries": ways,
    }


def _alias_shares(entries: list[Unpacked]) -> list[float]:
    """The chance of each entry, 0 to 1: what it keeps of its own draws and what others leave to it."""
    shares = [0.0] * len(entries)
    for index, entry in enumerate(entries):
        kept = (entry["threshold"] + 1) / 2**32
        shares[index] += kept / len(entries)
        if entry["alias"] < len(entries):
            shares[entry["alias"]] += (1 - kept) / len(entries)
    return [round(share, 9) for share in shares]


def print_node(node: Description) -> Iterator[str]:
    tickets = f", {node['total']} tickets" if node["total"] else ""
    stride = f", {node['stride']} to an entry" if node["stride"] else ""
    cursor = f", counted by {node['cursor']}" if node["cursor"] else ""
    yield f"{node['id']} {node['kind']} of {node['count']}{tickets}{stride}{cursor}"
    for index, entry in enumerate(node["entries"]):
        share = f" {entry['share']:8.3%}" if "share" in entry else ""
        yield f"  {index:2}{share} {print_way(entry)}"


def describe_backend(key: bytes, value: bytes, names: Names) -> Description:
    backend: Unpacked = BACKEND.unpack(value)
    return {
        "id": hexadecimal(id_of(key)),
        "addresses": list_addresses(backend),
        "cluster": names.of_unit(backend["cluster"]),
    }


def print_backend(record: Description) -> str:
    return f"{record['id']} {' '.join(record['addresses']) or 'no address'} of {record['cluster']}"


def describe_cursor(key: bytes, value: bytes) -> Description:
    return {"id": hexadecimal(id_of(key)), "count": int.from_bytes(value, "little")}


def print_cursor(record: Description) -> str:
    return f"{record['id']} at {record['count']}"
