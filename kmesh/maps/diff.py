"""What must be written and deleted to turn one image into another.

Costs what changed: unchanged units are the same Fragment objects. Against the tables of a kernel (after a restart) it
compares bytes. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kmesh.maps.image import Fragment, MapImage, MapName

__all__ = ["Delta", "Ledger", "diff_tables"]

_At = tuple[MapName, bytes]
"""Where a record stands: its map and key."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Every map has its (possibly empty) row in each group."""

    added: Mapping[MapName, dict[bytes, bytes]] = field(default_factory=lambda: {name: {} for name in MapName})
    """New keys."""
    replaced: Mapping[MapName, dict[bytes, tuple[bytes, bytes]]] = field(
        default_factory=lambda: {name: {} for name in MapName}
    )
    """Keys whose value changes: (was, becomes)."""
    deleted: Mapping[MapName, list[bytes]] = field(default_factory=lambda: {name: [] for name in MapName})
    """Keys nobody needs any more."""

    @property
    def is_empty(self) -> bool:
        groups = (self.added, self.replaced, self.deleted)
        return not any(rows for group in groups for rows in group.values())

    @property
    def has_deletions(self) -> bool:
        return any(self.deleted.values())


class Ledger:
    """How many fragments hold each immutable record, and the value of each cell, of one image."""

    def __init__(self, image: MapImage) -> None:
        self._image = image
        self._holders: Counter[_At] = Counter()
        self._cells: dict[_At, bytes] = {}
        for fragment in image.fragments.values():
            self._enter(fragment)

    @property
    def image(self) -> MapImage:
        return self._image

    def advance(self, image: MapImage) -> Delta:
        """Make `image` the current one; returns what that changes."""
        old, new = self._image.fragments, image.fragments
        left = [fragment for unit, fragment in old.items() if new.get(unit) is not fragment]
        entered = [fragment for unit, fragment in new.items() if old.get(unit) is not fragment]
        touched = {(name, key) for fragment in (*left, *entered) for name, key, _ in fragment.records}
        before = {at: self._cells.get(at) if at[0].is_cell else self._holders[at] for at in touched}
        for fragment in left:
            self._leave(fragment)
        for fragment in entered:
            self._enter(fragment)
        self._image = image
        return self._compare(before, _values(entered))

    def _compare(self, before: Mapping[_At, bytes | int | None], values: Mapping[_At, bytes]) -> Delta:
        delta = Delta()
        for at, was in before.items():
            name, key = at
            is_held = at in (self._cells if name.is_cell else self._holders)
            if was and not is_held:
                delta.deleted[name].append(key)
            elif is_held and not was:
                delta.added[name][key] = values[at]
            elif isinstance(was, bytes) and is_held and was != values[at]:
                delta.replaced[name][key] = (was, values[at])
        return delta

    def _enter(self, fragment: Fragment) -> None:
        for name, key, value in fragment.records:
            if name.is_cell:
                self._cells[name, key] = value
            else:
                self._holders[name, key] += 1

    def _leave(self, fragment: Fragment) -> None:
        for name, key, _ in fragment.records:
            if name.is_cell:
                del self._cells[name, key]
                continue
            self._holders[name, key] -= 1
            if not self._holders[name, key]:
                del self._holders[name, key]


def _values(fragments: Iterable[Fragment]) -> dict[_At, bytes]:
    return {(name, key): value for fragment in fragments for name, key, value in fragment.records}


def diff_tables(
    held: Mapping[MapName, Mapping[bytes, bytes]], wanted: Mapping[MapName, Mapping[bytes, bytes]]
) -> Delta:
    """Against what a kernel holds. Cursors are compared by key only: their values count on.

    An immutable record found under its key with other bytes (a map someone else wrote to) is written again.
    """
    delta = Delta()
    for name in MapName:
        for key, value in wanted[name].items():
            was = held[name].get(key)
            if was is None:
                delta.added[name][key] = value
            elif was != value and name is not MapName.CURSOR:
                delta.replaced[name][key] = (was, value)
        delta.deleted[name].extend(key for key in held[name] if key not in wanted[name])
    return delta


