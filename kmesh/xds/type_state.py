"""The state of one xDS type that both protocol variants share: what is subscribed, accepted, awaited and expiring.

No wire format, clock or I/O. Life of a name of a type that is subscribed by name:

    subscribe ──► wanted ──(request taken)──► told, awaited ──(valid resource)──► held
                                                  └─(15 s, or removed)──► missing ──(valid resource)──► held
    unsubscribe: no longer wanted, still held ──(request taken)──► forgotten

A name given up is forgotten only when the server is told: until then the server believes that the client has it
and would not send it again, so a name taken up again in between is served from the cache.

Source: xDS protocol, "Resource warming", "Deleting resources", "Unsubscribing from resources" and "Knowing when a
requested resource does not exist"; gRFC A57 (the timer runs only while there is a stream).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kmesh.errors import ResourceInvalid
from kmesh.xds.cache import Accepted, Cache
from kmesh.xds.deadlines import Deadlines
from kmesh.xds.decode import Batch, Decoded
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.update import Update

__all__ = ["NOT_RECEIVED_S", "TypeState"]

log = logging.getLogger(__name__)

NOT_RECEIVED_S = 15.0
"""How long a requested resource may take to come before it counts as not existing (xDS protocol)."""


class TypeState:
    """Attributes are read by the protocol cores and by status reports; only methods change them, but for the
    nonce, which is the cores' own."""

    def __init__(self, kind: ResourceType, not_received_s: float = NOT_RECEIVED_S) -> None:
        self.kind = kind
        self.cache = Cache()
        self.wanted: frozenset[str] = frozenset()
        """Empty for full-state types, which take everything."""
        self.told: frozenset[str] = frozenset()
        """What the server knows of `wanted`. Emptied with each stream."""
        self.is_requested = False
        """A request of this type was made on this stream."""
        self.nonce = ""
        """Of the last response on this stream."""
        self.version = ""
        """Last accepted. Survives streams; "" again once nothing is subscribed."""
        self.rejected: dict[str, str] = {}
        """Names whose latest version was refused, and why; a name leaves when a version of it is accepted."""
        self.responses = 0
        """Since the start."""
        self.last_nack = ""
        """Kept until the next one, even after a good response."""
        self.last_nack_at: float | None = None
        self.is_rejected = False
        """The latest response was refused."""
        self._missing: set[str] = set()
        self._not_received_s = not_received_s
        self._awaited = Deadlines()
        self._ttls = Deadlines()

    # Subscription

    def subscribe(self, names: frozenset[str]) -> Update | None:
        """Want exactly `names`. Returns what is already known of the names that are new to it."""
        assert not self.kind.is_full_state, f"{self.kind.name} has no names to subscribe to: it is a wildcard"
        new = names - self.wanted
        self.wanted = self.told if names == self.told else names  # so that is_due need not compare
        known = {name: self.kind.decode(held.raw)[1] for name in new if (held := self.cache.get(name))}
        missing = frozenset(new & self._missing)
        if not known and not missing:
            return None
        return Update(type_url=self.kind.type_url, changed=known, removed=missing)

    @property
    def is_due(self) -> bool:
        """The server must be told of the subscription."""
        if self.is_requested:
            return self.told is not self.wanted
        return self.kind.is_full_state or bool(self.wanted)

    def tell(self, now: float) -> None:
        """The request being made tells the server `wanted`."""
        for name in self.wanted - self.told:
            if name not in self.cache and name not in self._missing:
                self._awaited.set(name, now + self._not_received_s)
        self.told = self.wanted
        self.is_requested = True
        self._forget_unwanted()

    def open_stream(self) -> None:
        self._forget_unwanted()

    def lose_stream(self) -> None:
        self.told = frozenset()
        self.is_requested = False
        self.nonce = ""
        self._awaited.clear()

    # Responses

    def apply(self, batch: Batch, gone: Iterable[str], version: str, now: float) -> Update:
        """Take over the good part of a response; `gone` are names that it says are not there."""
        changed = {}
        for item in batch.resources.values():
            if not self._is_known(item.name):
                continue
            self._accept(item, now)
            if item.model is not None and self._is_wanted(item.name):
                changed[item.name] = item.model
        removed = frozenset([name for name in gone if self._lose(name)])
        for error in batch.errors:
            self._reject(error)
        self.responses += 1
        self.is_rejected = bool(batch.errors)
        if not batch.errors:
            self.version = version
        return Update(
            type_url=self.kind.type_url, version=version, changed=changed, removed=removed, errors=batch.errors
        )

    def note_nack(self, text: str, now: float) -> None:
        """Remember, and log unless it is what was said last (a server repeats a bad push until it is mended)."""
        level = logging.DEBUG if text == self.last_nack else logging.WARNING
        log.log(level, "xds response rejected", extra={"xds_type": self.kind.name, "error": text})
        self.last_nack = text
        self.last_nack_at = now

    # Time

    def next_deadline(self) -> float | None:
        return min((at for at in (self._awaited.next(), self._ttls.next()) if at is not None), default=None)

    def expire(self, now: float) -> Update | None:
        """Give up what did not come in time, and what outlived its TTL."""
        due = self._awaited.pop_due(now) + self._ttls.pop_due(now)
        removed = frozenset([name for name in due if self._lose(name)])
        if not removed:
            return None
        log.info("xds resources expired", extra={"xds_type": self.kind.name, "resources": sorted(removed)})
        return Update(type_url=self.kind.type_url, changed={}, removed=removed)

    # One name

    def _is_wanted(self, name: str) -> bool:
        return self.kind.is_full_state or name in self.wanted

    def _is_known(self, name: str) -> bool:
        """The server may rightly send it: wanted, or given up without the server having heard of it."""
        return self._is_wanted(name) or name in self.told

    def _accept(self, item: Decoded, now: float) -> None:
        self.cache.put(item.name, Accepted(item.version, item.raw))
        self.rejected.pop(item.name, None)
        self._missing.discard(item.name)
        self._awaited.cancel(item.name)
        if item.ttl_s is None:
            self._ttls.cancel(item.name)
        else:
            self._ttls.set(item.name, now + item.ttl_s)

    def _reject(self, error: ResourceInvalid) -> None:
        """The server has it, so it is not awaited any longer; whatever was held stays."""
        if error.name and self._is_known(error.name):
            self.rejected[error.name] = error.reason
            self._awaited.cancel(error.name)

    def _lose(self, name: str) -> bool:
        """It is not there. Returns whether that is news to the consumer."""
        was_missing = name in self._missing
        was_held = name in self.cache
        self._forget(name)
        if not self.kind.is_full_state and self._is_known(name):
            self._missing.add(name)
            return self._is_wanted(name) and not was_missing
        return was_held and self._is_wanted(name)

    def _forget(self, name: str) -> None:
        self.cache.drop(name)
        self.rejected.pop(name, None)
        self._awaited.cancel(name)
        self._ttls.cancel(name)

    def _forget_unwanted(self) -> None:
        if self.kind.is_full_state:
            return
        for name in (self.cache.names() | self.rejected.keys()) - self.wanted:
            self._forget(name)
        self._missing &= self.wanted
        self._awaited.keep_only(self.wanted)
        if not self.wanted:
            self.version = ""
