"""The configuration maps of one instance: make, read, write, grow.

Each is an inner hash map behind an ARRAY_OF_MAPS of one element (bpf_src/km_maps.h). Growing fills a larger inner map
and swaps the element, which programs see in one step.

All of them are made here, outer and inner. Were the outer ones left to bcc, their shapes would come from maps with
type information (BTF), and before Linux 6.2 such an outer map refuses inner maps without (bpf_map_meta_equal compares
timer_off, which then differs).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kmesh.errors import CapacityExceeded, MapError
from kmesh.kernel import bpf
from kmesh.maps.image import MapName
from kmesh.records.layout import (
    BACKEND,
    CELL,
    DECISION,
    DOMAIN,
    FRONTEND_KEY,
    INDEX,
    NODE,
    PAGE,
    PAGE_KEY,
    ROUTE,
    ROUTES,
)

__all__ = ["MAX_ENTRIES", "KernelTables", "create_tables"]

MAX_ENTRIES = 1 << 22
"""Of one map. A bound against a control plane gone wrong; at 4 KB a page it is 16 GB."""
_MIN_ENTRIES = 1 << 8
_SLOT = struct.pack("<I", 0)

_SHAPES: dict[MapName, tuple[int, int, int]] = {
    MapName.BACKEND: (8, BACKEND.size, bpf.BPF_F_NO_PREALLOC),
    MapName.CURSOR: (8, 8, bpf.BPF_F_NO_PREALLOC),
    MapName.NODE: (8, NODE.size, bpf.BPF_F_NO_PREALLOC),
    MapName.CLUSTER: (8, CELL.size, 0),
    MapName.PAGE: (PAGE_KEY.size, PAGE.size, bpf.BPF_F_NO_PREALLOC),
    MapName.ROUTE: (8, ROUTE.size, bpf.BPF_F_NO_PREALLOC),
    MapName.DECISION: (8, DECISION.size, bpf.BPF_F_NO_PREALLOC),
    MapName.DOMAIN: (8, DOMAIN.size, bpf.BPF_F_NO_PREALLOC),
    MapName.INDEX: (8, INDEX.size, bpf.BPF_F_NO_PREALLOC),
    MapName.ROUTES: (8, ROUTES.size, bpf.BPF_F_NO_PREALLOC),
    MapName.ROUTING: (8, CELL.size, 0),
    MapName.FRONTEND: (FRONTEND_KEY.size, CELL.size, 0),
}
"""Key size, value size, flags: as km_t_* in km_maps.h."""


def create_tables(maps_dir: Path) -> None:
    """Pin those of the maps in `maps_dir` that are not there yet, empty. Raises MapError."""
    for name in MapName:
        path = maps_dir / name.value
        if not path.exists():
            try:
                _create_outer(name, path)
            except OSError as error:
                raise MapError(name.value, "create", error.errno or 0) from None


def _create_outer(name: MapName, path: Path) -> None:
    with contextlib.ExitStack() as stack:
        inner = _create_inner(name, _MIN_ENTRIES)
        stack.callback(os.close, inner)
        outer = bpf.create_map(bpf.MapType.ARRAY_OF_MAPS, 4, 4, 1, inner_fd=inner, name=name.value)
        stack.callback(os.close, outer)
        bpf.update(outer, _SLOT, struct.pack("<I", inner))
        bpf.pin(outer, path)


def _create_inner(name: MapName, entries: int) -> int:
    key_size, value_size, flags = _SHAPES[name]
    return bpf.create_map(bpf.MapType.HASH, key_size, value_size, entries, flags=flags, name=name.value)


class KernelTables:
    """Opens the pinned maps of `maps_dir`, adopting what is in them. `limits` lowers MAX_ENTRIES per map."""

    def __init__(self, maps_dir: Path, limits: Mapping[MapName, int] | None = None) -> None:
        self.maps_dir = maps_dir
        self._limits = {name: MAX_ENTRIES for name in MapName} | dict(limits or {})
        self._outer = {name: bpf.get_object(maps_dir / name.value) for name in MapName}
        self._inner = {name: self._open_inner(name) for name in MapName}
        self._capacity = {name: bpf.map_info(fd).max_entries for name, fd in self._inner.items()}
        self._used = {name: len(self._items(name)) for name in MapName}
        self.operations: Counter[tuple[MapName, str]] = Counter()
        """Elements written and deleted since opening, by (map, "upsert" or "delete")."""

    def close(self) -> None:
        """Close descriptors; the maps stay pinned."""
        for fd in (*self._outer.values(), *self._inner.values()):
            with contextlib.suppress(OSError):
                os.close(fd)

    def read(self, name: MapName) -> dict[bytes, bytes]:
        """What the kernel holds."""
        return dict(self._items(name))

    def used(self, name: MapName) -> int:
        return self._used[name]

    def capacity(self, name: MapName) -> int:
        return self._capacity[name]

    def memory_bytes(self, name: MapName) -> int:
        return bpf.map_info(self._inner[name]).memory_bytes

    def reserve(self, added: Mapping[MapName, int]) -> None:
        """Make room for that many more elements in each map, or raise CapacityExceeded with nothing written."""
        needed = {name: self._used[name] + count for name, count in added.items()}
        for name, count in needed.items():
            if count > self._limits[name]:
                raise CapacityExceeded(name.value, count, self._limits[name])
        for name, count in needed.items():
            if count > self.capacity(name):
                self._resize(name, min(_round_up(count), self._limits[name]), count)

    def upsert(self, name: MapName, items: Sequence[tuple[bytes, bytes]], added: int) -> None:
        """Write elements, `added` of them new. Raises MapError."""
        if not items:
            return
        values = [_seed_cursor() for _ in items] if name is MapName.CURSOR else [value for _, value in items]
        try:
            bpf.update_batch(self._inner[name], [key for key, _ in items], values)
        except OSError as error:
            self._used[name] = len(self._items(name))
            raise MapError(name.value, "update", error.errno or 0) from None
        self._used[name] += added
        self.operations[name, "upsert"] += len(items)

    def delete(self, name: MapName, keys: Sequence[bytes]) -> None:
        """Delete elements; keys that are not there are passed over. Raises MapError."""
        if not keys:
            return
        try:
            deleted = bpf.delete_batch(self._inner[name], keys)
        except OSError as error:
            raise MapError(name.value, "delete", error.errno or 0) from None
        self._used[name] -= deleted
        self.operations[name, "delete"] += deleted

    def fence(self) -> None:
        """Wait until every program run that began before this call has ended.

        Setting an element of a map of maps does (kernel/bpf/syscall.c, maybe_wait_bpf_programs), whatever it is
        set to; so the element is set to what it is.
        """
        name = MapName.CURSOR
        try:
            bpf.update(self._outer[name], _SLOT, struct.pack("<I", self._inner[name]))
        except OSError as error:
            raise MapError(name.value, "update", error.errno or 0) from None

    def shrink(self) -> None:
        """Give memory back from maps that hold far less than they could, where the kernel has room for the move."""
        for name in MapName:
            target = _round_up(self._used[name] * 2)
            if target * 4 <= self.capacity(name):
                with contextlib.suppress(CapacityExceeded):
                    self._resize(name, target, self._used[name])

    def _items(self, name: MapName) -> list[tuple[bytes, bytes]]:
        key_size, value_size, _ = _SHAPES[name]
        return list(bpf.lookup_all(self._inner[name], key_size, value_size))

    def _open_inner(self, name: MapName) -> int:
        held = bpf.lookup(self._outer[name], _SLOT, 4)
        assert held is not None, f"{name.value} was pinned without its inner map"
        return bpf.map_fd_by_id(int.from_bytes(held, "little"))

    def _resize(self, name: MapName, entries: int, needed: int) -> None:
        """Fill a new inner map and swap it in. Cursors that move meanwhile lose a few tickets, which is harmless."""
        before = self.capacity(name)
        fd = -1
        try:
            fd = _create_inner(name, entries)
            items = self._items(name)
            bpf.update_batch(fd, [key for key, _ in items], [value for _, value in items])
            bpf.update(self._outer[name], _SLOT, struct.pack("<I", fd))
        except OSError:
            if fd >= 0:
                os.close(fd)
            raise CapacityExceeded(name.value, needed, before) from None
        os.close(self._inner[name])
        self._inner[name], self._capacity[name] = fd, entries


def _round_up(count: int) -> int:
    return max(_MIN_ENTRIES, 1 << (count - 1).bit_length() if count else 0)


def _seed_cursor() -> bytes:
    """Where a round robin starts: at random, as Envoy's does, so that a fleet restarted together does not march."""
    return secrets.token_bytes(4) + bytes(4)
