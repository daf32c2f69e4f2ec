"""What programs tell the relay, in the order in which they said it.

Events of one connection are in order, but what they speak of may have gone on: they are hints to look at the maps.
One that found no room was not told; kmesh.relay.untold finds what it was about.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from kmesh.kernel.ring_buffer import RingBuffer
from kmesh.records.constants import LIMITS, StreamEvent
from kmesh.records.layout import EVENT

__all__ = ["Event", "Events"]

_log = logging.getLogger(__name__)
_KINDS = {int(kind): kind for kind in StreamEvent}


class Event(NamedTuple):
    """As EVENT says."""

    kind: StreamEvent
    detail: int
    client: int
    upstream: int
    cluster: int
    netns: int


class Events:
    """The argument `hear` is called for each, from the event loop or from `take`. `counts` is by name of the kind."""

    def __init__(self, fd: int, hear: Callable[[Event], None]) -> None:
        self._fd, self._hear = fd, hear
        self._ring = RingBuffer(fd, LIMITS["EVENT_BYTES"])
        self._is_taking = False
        self.counts: Counter[str] = Counter()
        self._has_started = False
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """What was told before waits until then."""
        self._has_started = True
        self._loop.add_reader(self._fd, self.take)

    def take(self) -> None:
        """All that were told up to now."""
        if self._is_taking or not self._has_started:
            return  # from inside `hear`: the loop below goes on
        self._is_taking = True
        try:
            for record in self._ring.take():
                kind, *rest = EVENT.struct.unpack(record)
                known = _KINDS.get(kind)
                self.counts[known.name if known else f"kind {kind}"] += 1
                if known:
                    self.hear(Event(known, *rest))
        finally:
            self._is_taking = False

    def hear(self, event: Event) -> None:
        """As if it had been told now."""
        try:
            self._hear(event)
        except OSError as error:
            _log.warning("event_failed", extra={"event": event.kind.name, "why": str(error)})
        except Exception:  # a mistake with one connection, which those of the others are not to wait for
            _log.exception("event_failed", extra={"event": event.kind.name})

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        self._ring.close()
