"""Whose turn it is on one ADS stream: make before break.

No I/O, no clock. New clusters and their endpoints go first, then the listeners and routes that use them, and only
when the client has acknowledged those do clusters and endpoints go that nothing uses any more. Endpoints do not wait
for the acknowledgement of their clusters: Envoy sends that when the clusters are warm, for which it needs the
endpoints. Nothing waits longer than PATIENCE_S, so a client that never answers, or endpoints that never stop
changing, delay the order but do not stop it.

Source: xDS protocol, "Eventual consistency considerations" and "Resource warming".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kmesh.xds.server.catalog import CDS, EDS, LDS, RDS, Catalog, ResourceSet
from kmesh.xds.server.exchange import PATIENCE_S, Answer, Delivery

__all__ = ["Subscription", "Turn", "Turns"]

_MAKE = (CDS, EDS)
_SWITCH = (LDS, RDS)


class Subscription(Protocol):
    """What the order must know of one type on one stream."""

    delivery: Delivery

    def has_question(self, resources: ResourceSet) -> bool:
        """The client asked for something and has had no answer."""

    def has_news(self, resources: ResourceSet) -> bool:
        """Something to send, other than that resources are gone."""

    def has_leavers(self, resources: ResourceSet) -> bool:
        """The client still has a resource that is gone."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Send `type_url` now; `is_break` allows the response to take away clusters or endpoints that are gone."""

    type_url: str
    is_break: bool


class Turns:
    """The order on one stream. Types that are not in it (secrets, for example) have their turn at any time."""

    def __init__(self) -> None:
        self._until_made = _Patience()
        self._until_switched = _Patience()

    def choose(self, subscriptions: Mapping[str, Subscription], catalog: Catalog, now: float) -> Turn | None:
        """Who sends next; None when nobody may before the client's next request, the next catalog, or `deadline`."""
        view = _View(subscriptions, catalog, now)
        free = [t for t in subscriptions if t not in _MAKE + _SWITCH and (view.has_news(t) or view.has_leavers(t))]
        make = [t for t in _MAKE if view.has_news(t)]
        switch = [t for t in _SWITCH if view.has_news(t) or view.has_leavers(t)]
        leave = [t for t in _MAKE if view.has_leavers(t)]
        is_made = not make and not view.is_waiting(_MAKE)
        is_switched = is_made and not switch and not view.is_waiting(_SWITCH) and not view.is_refused(_SWITCH)
        may_switch = self._until_made.is_over(is_made or not switch, now)
        may_leave = self._until_switched.is_over(is_switched or not leave, now)
        for type_urls, may_go, is_break in (
            (free, True, True),
            (switch, may_switch, True),  # before `make`: it has work left here only when patience ended
            (make, True, False),
            (leave, may_leave, True),
        ):
            if type_urls and may_go:
                return Turn(type_urls[0], is_break)
        return None

    def deadline(self, subscriptions: Mapping[str, Subscription], now: float) -> float | None:
        """When patience next ends, so that `choose` may say something new by itself; None when it will not."""
        starts = [self._until_made.since, self._until_switched.since]
        starts += [s.delivery.sent_at for s in subscriptions.values() if s.delivery.is_awaited(now)]
        ends = [start + PATIENCE_S for start in starts if start is not None]
        return min((end for end in ends if end > now), default=None)


class _Patience:
    """Waits for a condition, but not for ever."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When the condition was first found unmet; None while it is met."""

    def is_over(self, is_met: bool, now: float) -> bool:
        if is_met:
            self.since = None
        elif self.since is None:
            self.since = now
        return self.since is None or now >= self.since + PATIENCE_S


@dataclass(frozen=True, slots=True)
class _View:
    """The subscriptions as they stand against one catalog."""

    subscriptions: Mapping[str, Subscription]
    catalog: Catalog
    now: float

    def has_news(self, type_url: str) -> bool:
        """News is held back while the last response is unanswered; the answer to a question is not."""
        s = self.subscriptions.get(type_url)
        if s is None:
            return False
        resources = self.catalog[type_url]
        return s.has_question(resources) or (not s.delivery.is_awaited(self.now) and s.has_news(resources))

    def has_leavers(self, type_url: str) -> bool:
        s = self.subscriptions.get(type_url)
        return s is not None and not s.delivery.is_awaited(self.now) and s.has_leavers(self.catalog[type_url])

    def is_waiting(self, type_urls: Iterable[str]) -> bool:
        """The client has still to answer a response of one of these types."""
        return any(s.delivery.is_awaited(self.now) for s in self._find(type_urls))

    def is_refused(self, type_urls: Iterable[str]) -> bool:
        """The client's last word on one of these types was a NACK."""
        return any(s.delivery.answer is Answer.NACK for s in self._find(type_urls))

    def _find(self, type_urls: Iterable[str]) -> list[Subscription]:
        return [self.subscriptions[t] for t in type_urls if t in self.subscriptions]
