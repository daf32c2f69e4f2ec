"""The configuration maps as the kernel has them now, as mappings that are read like an image's tables.

Each look-up asks which inner map is in force, as programs do, so it never reads one that was outgrown. What several
look-ups find need not belong together: an immutable record may be deleted once no program can still read it, and that
waits for programs, not for processes. Whoever walks from a cell to a backend begins anew where something is missing.

`LiveCursors` advances the kernel's own cursors. bpf(2) has no atomic addition, so between its look-up and its update
a program's ticket can be taken back: some endpoint then gets a connection more than its turn. Nothing else is lost.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

from kmesh.kernel import bpf
from kmesh.maps.image import MapName

__all__ = ["LiveCursors", "LiveTable", "open_live_tables"]

_SLOT = struct.pack("<I", 0)
_U64 = struct.Struct("<Q")
_TRIES = 8
_KEPT = 4096


class LiveTable(Mapping[bytes, bytes]):
    """One pinned map, read only. Methods raise OSError when bpf(2) fails.

    `is_immutable`: its records never change, so what was read is remembered, though the kernel's may be deleted.
    """

    def __init__(self, path: Path, *, is_immutable: bool = False) -> None:
        self._is_immutable = is_immutable
        self._outer = bpf.get_object(path)
        self._inner_id = self._inner = -1
        self._key_size = self._value_size = 0
        self._kept: dict[bytes, bytes] = {}

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        value = self._kept.get(key)
        if value is not None:
            return value
        inner = self._inner_now()
        value = bpf.lookup(inner, key, self._value_size)
        if value is None:
            return default
        if self._is_immutable:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = value
        return value

    def __getitem__(self, key: bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[bytes]:
        return bpf.keys(self._inner_now(), self._key_size)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def replace(self, key: bytes, value: bytes) -> None:
        """Set an element that is there."""
        bpf.update(self._inner_now(), key, value)

    def close(self) -> None:
        for fd in (self._outer, self._inner):
            if fd >= 0:
                os.close(fd)
        self._outer = self._inner = -1

    def _inner_now(self) -> int:
        for _ in range(_TRIES):
            held = bpf.lookup(self._outer, _SLOT, 4)
            if held is None:
                raise OSError("a configuration map without its inner map")
            number = int.from_bytes(held, "little")
            if number == self._inner_id:
                return self._inner
            try:
                fd = bpf.map_fd_by_id(number)
            except FileNotFoundError:
                continue  # outgrown between the two calls
            self._open(number, fd)
        return self._inner

    def _open(self, number: int, fd: int) -> None:
        if self._inner >= 0:
            os.close(self._inner)
        info = bpf.map_info(fd)
        self._inner_id, self._inner = number, fd
        self._key_size, self._value_size = info.key_size, info.value_size


class LiveCursors(MutableMapping[int, int]):
    """Cursors by id, as `descend` takes and advances them."""

    def __init__(self, table: LiveTable) -> None:
        self._table = table

    def get(self, cursor: int, default: int | None = None) -> int | None:  # type: ignore[override]
        """`default` is what `descend` has just read."""
        return self[cursor] if default is None else default

    def __getitem__(self, cursor: int) -> int:
        return int.from_bytes(self._table[_U64.pack(cursor)], "little")

    def __setitem__(self, cursor: int, number: int) -> None:
        self._table.replace(_U64.pack(cursor), _U64.pack(number))

    def __delitem__(self, cursor: int) -> None:
        raise TypeError("cursors are the configuration's")

    def __iter__(self) -> Iterator[int]:
        return (int.from_bytes(key, "little") for key in self._table)

    def __len__(self) -> int:
        return len(self._table)


def open_live_tables(maps_dir: Path, names: Iterable[MapName] = MapName) -> dict[MapName, LiveTable]:
    """Close each when done. Raises OSError."""
    changing = {*(name for name in MapName if name.is_cell), MapName.CURSOR}
    return {name: LiveTable(maps_dir / name.value, is_immutable=name not in changing) for name in names}
