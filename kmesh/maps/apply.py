"""Brings the kernel from one image to the next, so that no reader meets a record that is not there.

Order: make room in every map; write what is referred to before what refers (backends, cursors, nodes, clusters), then
switch the frontends; remove frontends that are gone; wait until every program that may have read the old ones has
ended; delete the rest. Until the first cell is written nothing a program can reach has changed, so any failure up to
there leaves the old configuration whole. Cells cannot fail after that: their maps are preallocated and have room.
What cannot be deleted afterwards changes nothing of what is in force; the next apply tries again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kmesh.errors import MapError
from kmesh.maps.diff import Delta, Ledger, diff_tables
from kmesh.maps.image import EMPTY, MapImage, MapName

__all__ = ["Applied", "Applier", "Tables"]

_log = logging.getLogger(__name__)
_REFERENTS_FIRST = tuple(MapName)
_IMMUTABLE = tuple(name for name in MapName if not name.is_cell)
_CELLS = tuple(name for name in MapName if name.is_cell)


class Tables(Protocol):
    """The maps being written; kmesh.kernel.tables.KernelTables is the real one."""

    def read(self, name: MapName) -> dict[bytes, bytes]: ...
    def reserve(self, added: Mapping[MapName, int]) -> None: ...
    def upsert(self, name: MapName, items: Sequence[tuple[bytes, bytes]], added: int) -> None: ...
    def delete(self, name: MapName, keys: Sequence[bytes]) -> None: ...
    def fence(self) -> None: ...
    def shrink(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one apply did."""

    upserts: int
    deletes: int
    effective_s: float
    """From the call to the last switch: the configuration is in force."""
    total_s: float
    """Until what it replaced was deleted too."""


class Applier:
    """Owns the tables. `apply` is all or nothing for what programs can see."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._image = EMPTY
        self._ledger: Ledger | None = None
        """None before the first apply and after a failed one: the next one then compares the kernel's own tables."""

    @property
    def image(self) -> MapImage:
        """The image in force; EMPTY before the first apply, whatever an earlier process left in the kernel."""
        return self._image

    def apply(self, image: MapImage) -> Applied:
        """Raises CapacityExceeded or MapError, with the previous image still in force."""
        started = time.monotonic()
        ledger, self._ledger = self._ledger, None
        if ledger is None:
            held = {name: self._tables.read(name) for name in MapName}
            delta, ledger = diff_tables(held, image.tables()), Ledger(image)
        else:
            delta = ledger.advance(image)
        self._tables.reserve({name: len(delta.added[name]) for name in MapName})
        self._add_immutable(delta)
        self._switch(delta)
        self._image = image
        effective = time.monotonic()
        try:
            self._collect(delta)
            self._ledger = ledger
        except MapError as error:
            _log.warning("leftovers_kept", extra={"reason": str(error)})
        return Applied(
            upserts=sum(len(delta.added[name]) + len(delta.replaced[name]) for name in MapName),
            deletes=sum(map(len, delta.deleted.values())),
            effective_s=effective - started,
            total_s=time.monotonic() - started,
        )

    def _add_immutable(self, delta: Delta) -> None:
        for name in _IMMUTABLE:
            rows = list(delta.added[name].items())
            mended = [(key, new) for key, (_, new) in delta.replaced[name].items()]
            self._tables.upsert(name, rows + mended, len(rows))

    def _switch(self, delta: Delta) -> None:
        """Write the cells, clusters before the frontends that name them; put the old ones back if one fails."""
        done: list[MapName] = []
        try:
            for name in _CELLS:
                done.append(name)
                rows = list(delta.added[name].items())
                changed = [(key, new) for key, (_, new) in delta.replaced[name].items()]
                self._tables.upsert(name, rows + changed, len(rows))
            self._tables.delete(MapName.FRONTEND, delta.deleted[MapName.FRONTEND])
        except MapError:
            for name in reversed(done):
                self._restore(name, delta)
            raise

    def _restore(self, name: MapName, delta: Delta) -> None:
        self._tables.upsert(name, [(key, was) for key, (was, _) in delta.replaced[name].items()], 0)
        self._tables.delete(name, list(delta.added[name]))

    def _collect(self, delta: Delta) -> None:
        """Delete what nothing leads to any more, once no program can still be reading it."""
        if not delta.has_deletions:
            return
        self._tables.fence()
        for name in reversed(_REFERENTS_FIRST):
            if name is not MapName.FRONTEND:
                self._tables.delete(name, delta.deleted[name])
        if delta.deleted[MapName.BACKEND]:
            # A UDP flow leads to its backend until that is gone. The kernel gives the memory of what is gone to the
            # next backend at once, so there must be none while a program may still read the old one.
            self._tables.fence()
        self._tables.shrink()
