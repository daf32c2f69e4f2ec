"""Server side of one State-of-the-World ADS stream: requests in, responses out.

Sans-IO. Nothing is queued: each response is made, when the transport is ready for one, from what the stream was last
told and the catalog as it is then. A slow client therefore skips to the latest state.

| type | a response holds | because |
|---|---|---|
| Listener, Cluster, any wildcard | all that is subscribed, and clusters that may not go yet | absence deletes |
| any other | what is new or changed of what is subscribed | absence means nothing |

Source: xDS protocol, "How the client specifies what resources to return" and "ACK/NACK and resource type instance
version".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from kmesh.errors import ProtocolError
from kmesh.xds.server.catalog import CDS, EDS, LDS, Catalog, Resource, ResourceSet
from kmesh.xds.server.exchange import Answer, Delivery, Receipt, is_legacy_wildcard
from kmesh.xds.server.order import Turns

__all__ = ["SotwStream"]


class SotwStream:
    """One stream. `node_id` is "" until a request gives it."""

    def __init__(self) -> None:
        self.node_id = ""
        self._subscriptions: dict[str, _Subscription] = {}
        self._turns = Turns()
        self._nonces = map(str, count(1))

    def receive(self, request: DiscoveryRequest) -> Receipt:
        """Raises ProtocolError when the request names no type."""
        if not request.type_url:
            raise ProtocolError("a request on an aggregated stream has no type_url")
        self.node_id = self.node_id or request.node.id
        error = request.error_detail.message if request.HasField("error_detail") else None
        answer, is_stale = None, False
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            self._subscriptions[request.type_url] = _Subscription(request.type_url, request.resource_names)
        elif request.response_nonce == subscription.delivery.nonce:
            answer = subscription.take(error, request.resource_names)
        else:
            is_stale = True  # its names are stale too: the answer to the newer response lists them all again
        return Receipt(
            type_url=request.type_url, nonce=request.response_nonce, answer=answer, error=error, is_stale=is_stale
        )

    def next_response(self, catalog: Catalog, now: float) -> DiscoveryResponse | None:
        """What to send now; None when there is nothing before the next request, the next catalog, or `deadline`."""
        turn = self._turns.choose(self._subscriptions, catalog, now)
        if turn is None:
            return None
        subscription = self._subscriptions[turn.type_url]
        resources = catalog[turn.type_url]
        if turn.type_url == CDS and EDS in self._subscriptions:
            self._subscriptions[EDS].repeat(subscription.changed_assignments(resources))
        told, version = subscription.tell(resources, turn.is_break)
        subscription.delivery.send(next(self._nonces), now)
        return DiscoveryResponse(
            version_info=version,
            type_url=turn.type_url,
            nonce=subscription.delivery.nonce,
            resources=[r.packed for r in told],
        )

    def deadline(self, now: float) -> float | None:
        """When `next_response` may say something new by itself; None when it will not."""
        return self._turns.deadline(self._subscriptions, now)


@dataclass(frozen=True, slots=True)
class _Difference:
    """Between what the client was told and one version of what is served."""

    version: str
    news: tuple[Resource, ...]
    leavers: tuple[Resource, ...]


class _Subscription:
    """One type on one stream."""

    def __init__(self, type_url: str, names: Collection[str]) -> None:
        self.delivery = Delivery()
        self._is_full_type = type_url in (LDS, CDS)
        self._is_legacy_wildcard = is_legacy_wildcard(type_url, names)
        """Until the client first names a resource."""
        self._is_wildcard = self._is_legacy_wildcard or "*" in names
        self._names = frozenset(names) - {"*"}
        self._asked = set(self._names)
        """Names that the client waits to hear of, whether or not it was told of them before."""
        self._owes_all = self._is_full
        """The client waits for the whole set, even when that is empty or unchanged."""
        self._told: dict[str, Resource] = {}
        self._in_flight: tuple[str, ...] = ()
        self._doubtful: set[str] = set()
        """Sent in a response that was refused: sent again with the next change."""
        self._difference: _Difference | None = None

    @property
    def _is_full(self) -> bool:
        return self._is_full_type or self._is_wildcard

    def take(self, error: str | None, names: Collection[str]) -> Answer | None:
        """A request that is not stale; `error` is None unless it is a NACK."""
        answer = self.delivery.take(error)
        if answer is Answer.NACK:
            self._doubtful.update(self._in_flight)
        self._replace_names(names)
        return answer

    def _replace_names(self, names: Collection[str]) -> None:
        self._is_legacy_wildcard = self._is_legacy_wildcard and not names
        is_wildcard = self._is_legacy_wildcard or "*" in names
        new = frozenset(names) - {"*"}
        if new == self._names and is_wildcard == self._is_wildcard:
            return
        added = new - self._names
        became_wildcard = is_wildcard and not self._is_wildcard
        self._names, self._is_wildcard = new, is_wildcard
        self._asked = (self._asked | added) & new
        self._owes_all = self._is_full and (self._owes_all or became_wildcard or bool(added))
        if not is_wildcard:
            self._told = {name: r for name, r in self._told.items() if name in new}
        self._difference = None

    def repeat(self, names: Iterable[str]) -> None:
        """Tell the client again of those that it was told of: it waits for them though they have not changed."""
        again = [name for name in names if name in self._told]
        if self._is_full:
            self._owes_all = self._owes_all or bool(again)
        self._asked.update(again)
        self._difference = None

    def has_question(self, resources: ResourceSet) -> bool:
        if self._is_full:
            return self._owes_all
        return any(name in resources.by_name for name in self._asked)

    def has_news(self, resources: ResourceSet) -> bool:
        return bool(self._compare(resources).news)

    def has_leavers(self, resources: ResourceSet) -> bool:
        return self._is_full and bool(self._compare(resources).leavers)

    def changed_assignments(self, resources: ResourceSet) -> list[str]:
        return [r.assignment for r in self._compare(resources).news if r.assignment]

    def tell(self, resources: ResourceSet, is_break: bool) -> tuple[Collection[Resource], str]:
        """The resources of the next response, and its version. Marks them as told."""
        told = self._tell_all(resources, is_break) if self._is_full else self._tell_news(resources)
        self._in_flight = tuple(told.by_name)
        self._asked.difference_update(told.by_name)
        self._doubtful.clear()
        self._difference = None
        return told.by_name.values(), told.version

    def _tell_all(self, resources: ResourceSet, is_break: bool) -> ResourceSet:
        wanted = self._wanted(resources)
        kept = {} if is_break else {r.name: r for r in self._compare(resources).leavers}
        if kept or not self._is_wildcard:
            resources = ResourceSet.of({**kept, **wanted})
        self._told = dict(resources.by_name)
        self._owes_all = False
        return resources

    def _tell_news(self, resources: ResourceSet) -> ResourceSet:
        news = {r.name: r for r in self._compare(resources).news}
        again = (self._asked | self._doubtful) & self._names
        news |= {name: resources.by_name[name] for name in again if name in resources.by_name}
        self._told |= news
        return ResourceSet(by_name=news, version=resources.version)

    def _wanted(self, resources: ResourceSet) -> Mapping[str, Resource]:
        if self._is_wildcard:
            return resources.by_name
        return {name: resources.by_name[name] for name in sorted(self._names) if name in resources.by_name}

    def _compare(self, resources: ResourceSet) -> _Difference:
        if self._difference is None or self._difference.version != resources.version:
            wanted = self._wanted(resources)
            self._difference = _Difference(
                version=resources.version,
                news=tuple(r for name, r in wanted.items() if not _is_same(self._told.get(name), r)),
                leavers=tuple(r for name, r in self._told.items() if name not in resources.by_name),
            )
        return self._difference


def _is_same(told: Resource | None, served: Resource) -> bool:
    return told is not None and told.version == served.version
