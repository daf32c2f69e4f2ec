"""What the two protocol cores have in common: their interface, and the table of types that each works on.

Both are sans-IO: messages and `now` in, an Update and messages out; no clock, socket, await or randomness. The
shell's loop:

    core.open_stream()                       each time a stream opens
    core.take_requests(now) -> send          then, and after each receive() and each table.subscribe()
    core.receive(response, now) -> Update    for each message
    core.lose_stream()                       when the stream ends; the timers that belong to it stop
    core.table.expire(now)                   at table.next_deadline(), with or without a stream: TTLs go on
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from kmesh.xds.cache import Accepted
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.type_state import NOT_RECEIVED_S, TypeState
from kmesh.xds.update import Update

__all__ = ["AdsCore", "TypeTable"]


class AdsCore(Protocol):
    """One ADS session over any number of streams, one at a time."""

    @property
    def table(self) -> TypeTable: ...

    def open_stream(self) -> None:
        """A stream opened; take_requests() has its first requests."""

    def lose_stream(self) -> None:
        """The stream ended. Answers that were not taken are void with it."""

    def receive(self, response: Any, now: float) -> Update | None:
        """Apply a response and make its answer. None for one that nobody asked for, which gets no answer."""

    def take_requests(self, now: float) -> list[Any]:
        """What to send now, in order: answers first, then changed subscriptions, each in messages of its own.

        Several changes of one type since the last call are one request. Empty when no stream is open.
        """


class TypeTable:
    """The states of all types, in the order in which the types were given: the order of first requests."""

    def __init__(self, types: Sequence[ResourceType], not_received_s: float = NOT_RECEIVED_S) -> None:
        self._states = {kind.type_url: TypeState(kind, not_received_s) for kind in types}
        assert len(self._states) == len(types), "a type_url is given twice"

    def __iter__(self) -> Iterator[TypeState]:
        return iter(self._states.values())

    def get(self, type_url: str) -> TypeState | None:
        return self._states.get(type_url)

    def subscribe(self, type_url: str, names: Iterable[str]) -> Update | None:
        """Subscribe to exactly `names` of a type that is not full-state; may be called without a stream.

        Returns what is known already of names that are new, so that a name dropped and taken up again before the
        server heard of it is not waited for in vain.
        """
        return self._states[type_url].subscribe(frozenset(names))

    def next_deadline(self) -> float | None:
        deadlines = [at for state in self if (at := state.next_deadline()) is not None]
        return min(deadlines, default=None)

    def expire(self, now: float) -> list[Update]:
        return [update for state in self if (update := state.expire(now))]

    def resources(self) -> Mapping[str, Mapping[str, Accepted]]:
        """A copy of everything accepted: {type_url: {name: Accepted}}."""
        return {state.kind.type_url: dict(state.cache.items()) for state in self}
