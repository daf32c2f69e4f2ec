"""STRICT_DNS and LOGICAL_DNS clusters: their host names kept resolved, as assignments of IP addresses.

    lookup:  asked ──found──► addresses, again after the TTL or the refresh rate
               └────failed──► addresses as they were (at first: as last saved, else none), again after a backoff

A cluster has an assignment once each of its hosts was asked, whatever came of it, or is known from the last run; and
a new one whenever that changes. Envoy starts a cluster after the first of its hosts; here one does not start on part
of its endpoints.
Source: source/extensions/clusters/dns/dns_cluster.cc in envoyproxy/envoy.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kmesh.bridge.resolver import Found, LookupFailed, Resolver, of_family
from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.cluster import Cluster, Discovery, DnsOptions
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint

__all__ = ["DnsClusters", "OnChange"]

logger = logging.getLogger(__name__)

OnChange = Callable[[str, ClusterLoadAssignment], None]
"""Called on the event loop with a cluster's name and its new assignment; must neither block nor call `watch`."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What clusters must have in common to share a lookup."""

    host: str
    options: DnsOptions
    is_logical: bool


@dataclass(slots=True)
class _Lookup:
    """A question that is asked again and again while clusters need it."""

    question: _Question
    clusters: set[str] = field(default_factory=set)
    addresses: tuple[str, ...] | None = None
    """None until the first attempt has ended, unless there are some from the last run."""
    failures: int = 0
    """In a row; 0 again after an answer."""
    task: asyncio.Task[None] | None = None
    """None while DnsClusters does not run."""


class DnsClusters:
    """`watch` says which clusters there are, `run` keeps them resolved, `on_change` hears of each new assignment."""

    def __init__(
        self,
        resolver: Resolver,
        on_change: OnChange,
        *,
        last_found: Mapping[str, tuple[str, ...]] | None = None,
        shortest_refresh_s: float = 1.0,
    ) -> None:
        """`last_found` is what `found` once returned: addresses to use until the first answer.

        `shortest_refresh_s` bounds refresh rates and TTLs from below.
        """
        self._resolver = resolver
        self._on_change = on_change
        self._last_found = last_found or {}
        self._shortest_refresh_s = shortest_refresh_s
        self._clusters: dict[str, Cluster] = {}
        self._assignments: dict[str, ClusterLoadAssignment] = {}
        self._lookups: dict[_Question, _Lookup] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def assignments(self) -> Mapping[str, ClusterLoadAssignment]:
        """By cluster name; a view, in which a cluster is missing until its first resolution has ended."""
        return self._assignments

    def found(self) -> dict[str, tuple[str, ...]]:
        """Addresses by host, to be saved for the next start."""
        found: dict[str, tuple[str, ...]] = {}
        for lookup in self._lookups.values():
            host = lookup.question.host
            found[host] = tuple(dict.fromkeys(found.get(host, ()) + (lookup.addresses or ())))
        return found

    def watch(self, clusters: Mapping[str, Cluster]) -> None:
        """Replace the set of DNS clusters by `clusters`; those of other discovery types are left out.

        May call `on_change` before it returns, for a cluster whose hosts are known already. Costs what changed:
        a cluster that is the same object as before is not looked at.
        """
        wanted = {name: cluster for name, cluster in clusters.items() if _is_dns(cluster)}
        for name in self._clusters.keys() - wanted.keys():
            self._replace(name, None)
        for name, cluster in wanted.items():
            if self._clusters.get(name) is not cluster:
                self._replace(name, cluster)

    async def run(self) -> None:
        """Resolve until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for lookup in self._lookups.values():
                    lookup.task = self._tasks.create_task(self._keep_asking(lookup))
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None

    def _replace(self, name: str, cluster: Cluster | None) -> None:
        old = self._clusters.pop(name, None)
        if cluster is None:
            self._assignments.pop(name, None)
        else:
            self._clusters[name] = cluster
        before, after = _questions(old), _questions(cluster)
        for question in after - before:
            self._join(question, name)
        for question in before - after:
            self._leave(question, name)
        if cluster is not None:
            self._assign(name)

    def _join(self, question: _Question, name: str) -> None:
        lookup = self._lookups.get(question)
        if lookup is None:
            lookup = self._lookups[question] = _Lookup(question, addresses=self._find_last(question))
            if self._tasks is not None:
                lookup.task = self._tasks.create_task(self._keep_asking(lookup))
        lookup.clusters.add(name)

    def _find_last(self, question: _Question) -> tuple[str, ...] | None:
        """As saved: a restarted bridge goes on where it was, and is not without endpoints until DNS has answered."""
        found = of_family(self._last_found.get(question.host, ()), question.options.family)
        return _in_order(question, found) or None

    def _leave(self, question: _Question, name: str) -> None:
        lookup = self._lookups[question]
        lookup.clusters.remove(name)
        if lookup.clusters:
            return
        del self._lookups[question]
        if lookup.task is not None:
            lookup.task.cancel()

    async def _keep_asking(self, lookup: _Lookup) -> None:
        question = lookup.question
        while True:
            try:
                found = await self._resolver.lookup(question.host, question.options.family)
            except LookupFailed as e:
                delay_s = self._after_failure(lookup, str(e))
            else:
                delay_s = self._after_answer(lookup, found)
            await asyncio.sleep(delay_s)

    def _after_answer(self, lookup: _Lookup, found: Found) -> float:
        """Returns seconds until the next lookup."""
        options = lookup.question.options
        if lookup.question.is_logical and not found.addresses:
            return self._after_failure(lookup, f"{lookup.question.host} has no address")
        if lookup.failures:
            logger.info("dns_lookup_recovered", extra={"host": lookup.question.host})
        lookup.failures = 0
        self._settle(lookup, found.addresses)
        has_ttl = options.respect_ttl and found.addresses and found.ttl_s
        return max(found.ttl_s if has_ttl else options.refresh_rate_s, self._shortest_refresh_s)

    def _after_failure(self, lookup: _Lookup, reason: str) -> float:
        """Returns seconds until the next lookup: from the shortest refresh up to the refresh rate, doubling, with
        jitter. Envoy waits the refresh rate, which may be long, from the first failure on."""
        known = lookup.addresses or ()
        if lookup.failures == 0:
            logger.warning("dns_lookup_failed", extra={"host": lookup.question.host, "reason": reason, "kept": known})
        backoff_s = self._shortest_refresh_s * 2.0 ** min(lookup.failures, 16)
        lookup.failures += 1
        self._settle(lookup, known)
        longest_s = max(lookup.question.options.refresh_rate_s, self._shortest_refresh_s)
        return min(backoff_s, longest_s) * random.uniform(0.75, 1.25)

    def _settle(self, lookup: _Lookup, addresses: tuple[str, ...]) -> None:
        addresses = _in_order(lookup.question, addresses)
        before, lookup.addresses = lookup.addresses, addresses
        if before == addresses:
            return
        if lookup.failures == 0 and set(before or ()) != set(addresses):
            logger.info("dns_resolved", extra={"host": lookup.question.host, "addresses": addresses})
        for name in sorted(lookup.clusters):
            self._assign(name)

    def _assign(self, name: str) -> None:
        """Make the cluster's assignment anew, once all its hosts were asked, and tell of it when it differs."""
        cluster = self._clusters[name]
        lookups = {question.host: self._lookups[question].addresses for question in _questions(cluster)}
        addresses = {host: found for host, found in lookups.items() if found is not None}
        if len(addresses) < len(lookups):
            return
        assignment = _resolve_assignment(cluster, addresses)
        if self._assignments.get(name) != assignment:
            self._assignments[name] = assignment
            self._on_change(name, assignment)


def _in_order(question: _Question, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted for STRICT_DNS: servers rotate their answers, which is no change to a set."""
    return addresses if question.is_logical else tuple(sorted(addresses))


def _is_dns(cluster: Cluster) -> bool:
    return cluster.discovery in (Discovery.STRICT_DNS, Discovery.LOGICAL_DNS)


def _questions(cluster: Cluster | None) -> set[_Question]:
    """One for each host name of the cluster."""
    if cluster is None or cluster.assignment is None:
        return set()
    is_logical = cluster.discovery is Discovery.LOGICAL_DNS
    return {
        _Question(endpoint.address.host, cluster.dns, is_logical)
        for group in cluster.assignment.localities
        for endpoint in group.endpoints
        if isinstance(endpoint.address, HostAddress)
    }


def _resolve_assignment(cluster: Cluster, addresses: Mapping[str, tuple[str, ...]]) -> ClusterLoadAssignment:
    """The cluster's assignment with every host name replaced by its addresses, by `addresses`: {host: addresses}."""
    assignment = cluster.assignment or ClusterLoadAssignment(name=cluster.name)
    resolve = _first_address if cluster.discovery is Discovery.LOGICAL_DNS else _every_address
    localities = tuple(
        replace(group, endpoints=tuple(e for endpoint in group.endpoints for e in resolve(endpoint, addresses)))
        for group in assignment.localities
    )
    return replace(assignment, localities=localities)


def _every_address(endpoint: Endpoint, addresses: Mapping[str, tuple[str, ...]]) -> tuple[Endpoint, ...]:
    """STRICT_DNS: each address is an endpoint, all with the weight and health of the host's."""
    host = endpoint.address
    if isinstance(host, SocketAddress):
        return (endpoint,)
    return tuple(endpoint._replace(address=SocketAddress.parse(ip, host.port)) for ip in addresses[host.host])


def _first_address(endpoint: Endpoint, addresses: Mapping[str, tuple[str, ...]]) -> tuple[Endpoint, ...]:
    """LOGICAL_DNS: the host is one endpoint at its first address; the first of the other family is its second."""
    host = endpoint.address
    if isinstance(host, SocketAddress):
        return (endpoint,)
    found = [SocketAddress.parse(ip, host.port) for ip in addresses[host.host]]
    if not found:
        return ()
    others = [address for address in found if address.is_v4 is not found[0].is_v4]
    return (endpoint._replace(address=found[0], additional=tuple(others[:1])),)
