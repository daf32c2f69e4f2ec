"""Upstream connections of the relay's own exchanges, kept for the next one when they stand between two.

They are in no map, so programs know nothing of them. Few are kept, and not for long: most requests are the kernel's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kmesh.relay.channel import Channel

__all__ = ["Origin", "Spares"]

_MOST = 16
"""For each (namespace, cluster)."""
_IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection was made, and to what."""

    netns: int
    cluster: int
    backend: int


class Spares:
    """`note` whence a connection is, `forget` it when it is used no longer, or `keep` it then."""

    def __init__(self) -> None:
        self._origins: dict[Channel, Origin] = {}
        self._kept: dict[tuple[int, int], list[tuple[float, Channel, Origin]]] = {}

    def note(self, channel: Channel, origin: Origin) -> None:
        self._origins[channel] = origin

    def forget(self, channel: Channel) -> Origin | None:
        return self._origins.pop(channel, None)

    def keep(self, channel: Channel, origin: Origin) -> None:
        kept = self._kept.setdefault((origin.netns, origin.cluster), [])
        if len(kept) >= _MOST:
            channel.close()
            return
        kept.append((asyncio.get_running_loop().time(), channel, origin))

    def take(self, netns: int, cluster: int) -> Channel | None:
        """The one that was used last; it is noted again."""
        kept = self._kept.get((netns, cluster))
        while kept:
            _, channel, origin = kept.pop()
            if not (channel.has_ended or channel.is_lost) and channel.is_empty():
                self._origins[channel] = origin
                return channel
            channel.reset()
        return None

    def tick(self, is_current: Callable[[Origin], bool]) -> None:
        """Those that were idle too long go, and those whose endpoint is the cluster's no more."""
        now = asyncio.get_running_loop().time()
        self._close_all(lambda since, origin: now - since >= _IDLE_S or not is_current(origin))

    def close_namespace(self, netns: int) -> None:
        self._close_all(lambda _, origin: origin.netns == netns)

    def close(self) -> None:
        self._close_all(lambda *_: True)

    def _close_all(self, leaves: Callable[[float, Origin], bool]) -> None:
        for key, kept in list(self._kept.items()):
            left = []
            for since, channel, origin in kept:
                if channel.has_ended or leaves(since, origin):
                    channel.close()
                else:
                    left.append((since, channel, origin))
            if left:
                self._kept[key] = left
            else:
                del self._kept[key]
