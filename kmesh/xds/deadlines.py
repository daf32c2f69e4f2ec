"""Named deadlines, cheap to move and to ask for the next. No clock: times are the caller's."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

__all__ = ["Deadlines"]


class Deadlines:
    """At most one deadline for each name.

    The heap may hold entries that no longer count (cancelled or moved). They are dropped when they reach the top,
    or all at once when they outnumber the others.
    """

    def __init__(self) -> None:
        self._when: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, name: str) -> bool:
        return name in self._when

    def set(self, name: str, when: float) -> None:
        """Replaces the name's previous deadline."""
        self._when[name] = when
        heappush(self._heap, (when, name))
        if len(self._heap) > 2 * len(self._when) + 64:
            self._heap = [(at, known) for known, at in self._when.items()]
            heapify(self._heap)

    def cancel(self, name: str) -> None:
        self._when.pop(name, None)

    def keep_only(self, names: Iterable[str]) -> None:
        for name in self._when.keys() - names:
            del self._when[name]

    def clear(self) -> None:
        self._when.clear()
        self._heap.clear()

    def next(self) -> float | None:
        """The earliest deadline, None when there is none."""
        while self._heap:
            when, name = self._heap[0]
            if self._when.get(name) == when:
                return when
            heappop(self._heap)
        return None

    def pop_due(self, now: float) -> list[str]:
        """Names whose deadline is at or before `now`, earliest first; they have none afterwards."""
        due = []
        while (when := self.next()) is not None and when <= now:
            name = heappop(self._heap)[1]
            del self._when[name]
            due.append(name)
        return due
