"""What numbers in records are called, and the pieces that descriptions of several records share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from socket import ntohs
from typing import Any

from kmesh.maps.image import MapImage
from kmesh.model.address import V4_MAPPED, SocketAddress
from kmesh.records.constants import Action, Family, Handover, Reason
from kmesh.records.digest import name_id
from kmesh.records.layout import BACKEND
from kmesh.records.seal import seal

__all__ = ["Description", "Names", "Unpacked", "describe_way", "hexadecimal", "id_of", "is_sealed", "list_addresses"]
__all__ += ["name_of", "name_units", "print_seal", "print_way"]

Description = dict[str, Any]
"""Strings, numbers, booleans, and lists of those or of Descriptions; ids as 16 hex digits."""

Unpacked = Mapping[str, Any]
"""What a kmesh.records.layout.Record unpacks to: int, or bytes for byte strings and arrays of records."""


def name_units(image: MapImage) -> dict[int, str]:
    """The names behind the ids of an image's clusters and routing units."""
    return {name_id(kind, name): name for kind, name in image.fragments if kind in ("cluster", "routes")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What ids are called."""

    units: Mapping[int, str]
    backends: Mapping[bytes, bytes]
    """The elements of the map of backends."""
    fields: Mapping[int, str] = field(default_factory=dict)
    """Of requests, as far as they are known: "header x-user"."""

    def of_unit(self, number: int) -> str:
        return self.units.get(number) or hexadecimal(number)

    def of_backend(self, number: int) -> str:
        """Its addresses and id, or the id alone when there is no such backend."""
        value = self.backends.get(number.to_bytes(8, "little"))
        addresses = list_addresses(BACKEND.unpack(value)) if value else []
        return " ".join([*addresses, hexadecimal(number)])


def describe_way(record: Unpacked, names: Names) -> Description:
    """The action and the target that cells, entries and routes share."""
    match record["action"]:
        case Action.CLUSTER:
            target = names.of_unit(record["target"])
        case Action.BACKEND:
            target = names.of_backend(record["target"])
        case Action.REFUSE:
            target = name_of(Reason, record["target"])
        case Action.HANDOVER:
            target = name_of(Handover, record["target"])
        case Action.NONE | Action.PASS:
            target = ""
        case _:
            target = hexadecimal(record["target"])
    return {"action": name_of(Action, record["action"]), "target": target}


def print_way(way: Description) -> str:
    return f"-> {way['action']} {way['target']}".rstrip()


def print_seal(record: Description) -> str:
    return "" if record["is_sealed"] else " SEAL BROKEN"


def is_sealed(key: bytes, cell: Unpacked) -> bool:
    return bool(cell["seal"] == seal(key, cell["target"], cell["action"]))


def list_addresses(backend: Unpacked) -> list[str]:
    addresses = []
    if backend["families"] & Family.V4:
        addresses.append(SocketAddress(V4_MAPPED + backend["addr4_be"], ntohs(backend["port4_be"])))
    if backend["families"] & Family.V6:
        addresses.append(SocketAddress(backend["addr6"], ntohs(backend["port6_be"])))
    return [str(address) for address in addresses]


def name_of(names: type[IntEnum], number: int) -> str:
    return names(number).name if number in set(names) else str(number)


def id_of(key: bytes) -> int:
    """The number that is the key of every map but those of frontends and pages."""
    return int.from_bytes(key, "little")


def hexadecimal(number: int) -> str:
    return f"{number:016x}"
