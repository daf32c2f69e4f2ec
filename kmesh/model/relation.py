"""A many-to-many relation, indexed both ways: who names what, and who waits for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

__all__ = ["Relation"]

K = TypeVar("K")


class Relation(Generic[K]):
    """Holders and the names that each holds. A holder without names is none."""

    def __init__(self) -> None:
        self._names: dict[K, frozenset[K]] = {}
        self._holders: dict[K, set[K]] = {}
        self._all: frozenset[K] | None = frozenset()
        """None when it must be made again."""

    def __contains__(self, name: K) -> bool:
        return name in self._holders

    @property
    def names(self) -> frozenset[K]:
        """Every name that someone holds; the same object until that changes."""
        if self._all is None:
            self._all = frozenset(self._holders)
        return self._all

    @property
    def holders(self) -> Mapping[K, frozenset[K]]:
        """{holder: names}; a view."""
        return self._names

    def holders_of(self, name: K) -> frozenset[K]:
        return frozenset(self._holders.get(name, ()))

    def put(self, holder: K, names: frozenset[K]) -> frozenset[K]:
        """Replace what `holder` holds. Returns the names that nobody holds any longer."""
        before = self._names.pop(holder, frozenset())
        if names:
            self._names[holder] = names
        for name in names - before:
            if name not in self._holders:
                self._all = None
            self._holders.setdefault(name, set()).add(holder)
        return frozenset(name for name in before - names if self._release(name, holder))

    def _release(self, name: K, holder: K) -> bool:
        holders = self._holders[name]
        holders.remove(holder)
        if holders:
            return False
        del self._holders[name]
        self._all = None
        return True
