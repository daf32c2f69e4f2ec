"""What must be written and deleted to turn one image into another.

Costs what changed: unchanged units are the same Fragment objects. Against the tables of a kernel (after a restart) it
compares bytes. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kmesh.maps.image import Fragment, MapImage, MapName, merge_tables

__all__ = ["Delta", "Ledger", "diff_tables"]


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
    def has_deletions(self) -> bool:
        return any(self.deleted.values())


class Ledger:
    """How many fragments of one image hold each immutable record. A cell needs no count: it has one holder."""

    def __init__(self, image: MapImage) -> None:
        self._image = image
        self._holders: dict[MapName, Counter[bytes]] = {name: Counter() for name in MapName if not name.is_cell}
        self._hold(image.fragments.values())

    @property
    def image(self) -> MapImage:
        return self._image

    def advance(self, image: MapImage) -> Delta:
        """Make `image` the current one; returns what that changes."""
        left, entered = _changed_fragments(self._image.fragments, image.fragments)
        was, becomes = merge_tables(left), merge_tables(entered)
        delta = Delta()
        for name in MapName:
            if name.is_cell:
                _diff_table(delta, name, was[name], becomes[name])
            else:
                held = self._holders[name]
                delta.added[name].update((key, value) for key, value in becomes[name].items() if key not in held)
        self._hold(entered)
        self._release(left)
        for name, held in self._holders.items():
            delta.deleted[name].extend(key for key in was[name] if key not in held)
        self._image = image
        return delta

    def _hold(self, fragments: Iterable[Fragment]) -> None:
        for fragment in fragments:
            for name, table in fragment.tables.items():
                if not name.is_cell:
                    self._holders[name].update(table.keys())

    def _release(self, fragments: Iterable[Fragment]) -> None:
        for fragment in fragments:
            for name, table in fragment.tables.items():
                if not name.is_cell:
                    _count_down(self._holders[name], table)


def diff_tables(
    held: Mapping[MapName, Mapping[bytes, bytes]], wanted: Mapping[MapName, Mapping[bytes, bytes]]
) -> Delta:
    """Against what a kernel holds. Cursors are compared by key only: their values count on.

    An immutable record found under its key with other bytes (a map someone else wrote to) is written again.
    """
    delta = Delta()
    for name in MapName:
        _diff_table(delta, name, held[name], wanted[name])
    return delta


def _diff_table(delta: Delta, name: MapName, held: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> None:
    added, replaced = delta.added[name], delta.replaced[name]
    for key, value in wanted.items():
        was = held.get(key)
        if was is None:
            added[key] = value
        elif was != value and name is not MapName.CURSOR:
            replaced[key] = (was, value)
    delta.deleted[name].extend(key for key in held if key not in wanted)


_Fragments = Mapping[tuple[str, str], Fragment]


def _changed_fragments(old: _Fragments, new: _Fragments) -> tuple[list[Fragment], list[Fragment]]:
    """Those that left and those that entered."""
    if list(old) == list(new):  # nearly always; and costs little, as the units themselves are the same objects
        pairs = zip(old.values(), new.values(), strict=True)
        changed = [(was, becomes) for was, becomes in pairs if was is not becomes]
        return [was for was, _ in changed], [becomes for _, becomes in changed]
    left = [fragment for unit, fragment in old.items() if new.get(unit) is not fragment]
    entered = [fragment for unit, fragment in new.items() if old.get(unit) is not fragment]
    return left, entered


def _count_down(counter: Counter[bytes], keys: Iterable[bytes]) -> None:
    """By one each; what comes to nothing is forgotten."""
    for key in keys:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]
