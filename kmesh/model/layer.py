"""A mapping that is copied when it changed, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

__all__ = ["Layer"]

T = TypeVar("T")


class Layer(Generic[T]):
    """Names and their objects; `view` gives them as of now, sorted by name, never to change again."""

    def __init__(self) -> None:
        self._items: dict[str, T] = {}
        self._is_sorted = True
        self._view: Mapping[str, T] | None = None
        """None once the items changed."""

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def get(self, name: str) -> T | None:
        return self._items.get(name)

    def set(self, name: str, item: T) -> None:
        if self._items.get(name) is item:
            return
        self._is_sorted = self._is_sorted and name in self._items
        self._items[name] = item
        self._view = None

    def drop(self, name: str) -> None:
        if self._items.pop(name, None) is not None:
            self._view = None

    def view(self) -> Mapping[str, T]:
        """The same object until an item changes. Costs one copy of the mapping when one did."""
        if not self._is_sorted:
            self._items = dict(sorted(self._items.items()))
            self._is_sorted = True
        if self._view is None:
            self._view = MappingProxyType(self._items.copy())
        return self._view
