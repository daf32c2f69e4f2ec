"""Server side of one incremental (delta) ADS stream: requests in, responses out.

Sans-IO. Nothing is queued: each response is made, when the transport is ready for one, from what the stream was last
told and the catalog as it is then. A slow client therefore skips to the latest state.

Source: xDS protocol, "Incremental xDS" and "Deleting resources", "Unsubscribing from resources".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import count

from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from kmesh.errors import ProtocolError
from kmesh.xds.server.catalog import CDS, EDS, Catalog, Resource, ResourceSet
from kmesh.xds.server.exchange import Answer, Delivery, Receipt, is_legacy_wildcard
from kmesh.xds.server.order import Turns

__all__ = ["DeltaStream"]


class DeltaStream:
    """One stream. `node_id` is "" until a request gives it."""

    def __init__(self) -> None:
        self.node_id = ""
        self._subscriptions: dict[str, _Subscription] = {}
        self._turns = Turns()
        self._nonces = map(str, count(1))

    def receive(self, request: DeltaDiscoveryRequest) -> Receipt:
        """Raises ProtocolError when the request names no type."""
        if not request.type_url:
            raise ProtocolError("a request on an aggregated stream has no type_url")
        self.node_id = self.node_id or request.node.id
        error = request.error_detail.message if request.HasField("error_detail") else None
        answer, is_stale = None, False
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            subscription = self._subscriptions[request.type_url] = _Subscription(request)
        else:
            # Changes of subscription count however stale the answer beside them: they are never said again.
            subscription.subscribe(request.resource_names_subscribe)
            is_stale = request.response_nonce not in ("", subscription.delivery.nonce)
            answer = subscription.take(error) if request.response_nonce and not is_stale else None
        subscription.unsubscribe(request.resource_names_unsubscribe)
        return Receipt(
            type_url=request.type_url, nonce=request.response_nonce, answer=answer, error=error, is_stale=is_stale
        )

    def next_response(self, catalog: Catalog, now: float) -> DeltaDiscoveryResponse | None:
        """What to send now; None when there is nothing before the next request, the next catalog, or `deadline`."""
        turn = self._turns.choose(self._subscriptions, catalog, now)
        if turn is None:
            return None
        subscription = self._subscriptions[turn.type_url]
        resources = catalog[turn.type_url]
        told, removed = subscription.tell(resources, turn.is_break)
        if turn.type_url == CDS and EDS in self._subscriptions:
            self._subscriptions[EDS].repeat(r.assignment for r in told if r.assignment)
        subscription.delivery.send(next(self._nonces), now)
        return DeltaDiscoveryResponse(
            system_version_info=resources.version,
            type_url=turn.type_url,
            nonce=subscription.delivery.nonce,
            resources=[discovery_pb2.Resource(name=r.name, version=r.version, resource=r.packed) for r in told],
            removed_resources=removed,
        )

    def deadline(self, now: float) -> float | None:
        """When `next_response` may say something new by itself; None when it will not."""
        return self._turns.deadline(self._subscriptions, now)


@dataclass(frozen=True, slots=True)
class _Difference:
    """Between what the client was told and one version of what is served."""

    version: str
    news: tuple[Resource, ...]
    leavers: tuple[str, ...]


class _Subscription:
    """One type on one stream. `first` is its first request, of which all is taken but what it unsubscribes."""

    def __init__(self, first: DeltaDiscoveryRequest) -> None:
        names = first.resource_names_subscribe
        self.delivery = Delivery()
        self._is_wildcard = is_legacy_wildcard(first.type_url, names) or "*" in names
        self._names = set(names) - {"*"}
        self._told: dict[str, str] = {}
        """Version by name."""
        for name, version in first.initial_resource_versions.items():
            if self._is_wildcard or name in self._names:
                self._told[name] = version
        self._asked = self._names - self._told.keys()
        """Names to tell of next, present or not, whatever the client was told before."""
        self._owes_answer = True
        """The first request of a type is always answered, by an empty response if the client is up to date."""
        self._in_flight: tuple[str, ...] = ()
        self._doubtful: set[str] = set()
        """Sent in a response that was refused: sent again with the next change."""
        self._difference: _Difference | None = None

    def take(self, error: str | None) -> Answer | None:
        """A request that carries the last response's nonce; `error` is None unless it is a NACK."""
        answer = self.delivery.take(error)
        if answer is Answer.NACK:
            self._doubtful.update(self._in_flight)
        return answer

    def subscribe(self, names: Collection[str]) -> None:
        """A name that is subscribed already is told of once more."""
        self._is_wildcard = self._is_wildcard or "*" in names
        self._names.update(names)
        self._asked.update(names)
        for known in (self._names, self._asked):
            known.discard("*")
        self._difference = None

    def unsubscribe(self, names: Collection[str]) -> None:
        self._is_wildcard = self._is_wildcard and "*" not in names
        left = self._names.intersection(names)
        self._names -= left
        if self._is_wildcard:
            self._asked |= left  # the client cannot know whether the wildcard still covers them: say so
        elif names:
            self._asked &= self._names
            self._told = {name: version for name, version in self._told.items() if name in self._names}
        self._difference = None

    def repeat(self, names: Iterable[str]) -> None:
        """Tell the client again of those that it was told of: it waits for them though they have not changed."""
        self._asked.update(name for name in names if name in self._told)

    def has_question(self, resources: ResourceSet) -> bool:
        return self._owes_answer or bool(self._asked)

    def has_news(self, resources: ResourceSet) -> bool:
        return bool(self._compare(resources).news)

    def has_leavers(self, resources: ResourceSet) -> bool:
        return bool(self._compare(resources).leavers)

    def tell(self, resources: ResourceSet, is_break: bool) -> tuple[Collection[Resource], list[str]]:
        """The resources and the removed names of the next response. Marks them as told."""
        difference = self._compare(resources)
        again = self._asked | (self._doubtful if self._is_wildcard else self._doubtful & self._names)
        told = {r.name: r for r in difference.news}
        told |= {name: resources.by_name[name] for name in sorted(again) if name in resources.by_name}
        removed = {name for name in self._asked if name not in resources.by_name}
        removed |= set(difference.leavers) if is_break else set()
        self._told |= {name: r.version for name, r in told.items()}
        for name in removed:
            self._told.pop(name, None)
        self._in_flight = tuple(told)
        self._asked.clear()
        self._doubtful.clear()
        self._owes_answer = False
        self._difference = None
        return told.values(), sorted(removed)

    def _compare(self, resources: ResourceSet) -> _Difference:
        if self._difference is None or self._difference.version != resources.version:
            wanted = resources.by_name if self._is_wildcard else sorted(self._names & resources.by_name.keys())
            served = (resources.by_name[name] for name in wanted)
            self._difference = _Difference(
                version=resources.version,
                news=tuple(r for r in served if self._told.get(r.name) != r.version),
                leavers=tuple(name for name in self._told if name not in resources.by_name),
            )
        return self._difference
