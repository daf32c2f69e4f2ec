"""The accepted resources of one type, as the bytes that the server sent.

Bytes and not model objects: the last good snapshot, a dump and a reconnect need no more, and the model lives on
in the snapshot only.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView
from dataclasses import dataclass

__all__ = ["Accepted", "Cache"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """`version` is the resource's own in delta, and the response's in SotW; it may be ""."""

    version: str
    raw: bytes


class Cache:
    """Accepted resources by name; also finds the name of bytes already held, which need no decoding again."""

    def __init__(self) -> None:
        self._entries: dict[str, Accepted] = {}
        self._name_of: dict[bytes, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Accepted | None:
        return self._entries.get(name)

    def names(self) -> KeysView[str]:
        return self._entries.keys()

    def items(self) -> ItemsView[str, Accepted]:
        return self._entries.items()

    def name_of(self, raw: bytes) -> str | None:
        """The name whose current version has exactly these bytes."""
        return self._name_of.get(raw)

    def put(self, name: str, accepted: Accepted) -> None:
        self.drop(name)
        self._entries[name] = accepted
        self._name_of[accepted.raw] = name

    def drop(self, name: str) -> None:
        old = self._entries.pop(name, None)
        if old is not None:
            del self._name_of[old.raw]
