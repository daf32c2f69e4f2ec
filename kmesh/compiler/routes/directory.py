"""How Host leads to a virtual host: every domain by hash, and the automaton of those with a wildcard.

Changed links touch the index only. Other domains make it anew, and the automaton where wildcards are among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kmesh.compiler.automata import BoundExceeded, Bounds, Budget, OverBound, Packed, pack_pages
from kmesh.compiler.routes.domains import ANY, DomainIndex, is_wildcard, write_domains
from kmesh.compiler.routes.wildcards import build_wildcards
from kmesh.maps.image import MapName, Record
from kmesh.model.match import MILLION
from kmesh.records.constants import Action, Handover, LinkKind
from kmesh.records.digest import content_id
from kmesh.records.hash import hash_text
from kmesh.records.layout import ID, ROUTE

__all__ = ["Directory", "HostDomains", "hand_over_all", "make_directory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDomains:
    """Of one virtual host."""

    texts: tuple[bytes, ...]
    ids: Mapping[int, int]
    """Of their records, by hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    hosts: Mapping[str, HostDomains]
    index: DomainIndex
    wild: frozenset[bytes]
    wildcards: Packed | None = None
    overflow: OverBound | None = None
    """Why hosts that no exact domain is found for are handed over."""
    handed_over: str = ""
    """Which virtual hosts those are, for people."""
    extra: tuple[Record, ...] = ()
    """What they are handed over by."""

    @property
    def records(self) -> Iterable[Record]:
        yield from self.index.records
        yield from self.extra
        if self.wildcards:
            yield from ((MapName.PAGE, key, page) for key, page in self.wildcards.records)


def make_directory(hosts: Mapping[str, HostDomains], before: Directory | None, bounds: Bounds) -> Directory:
    """Of the virtual hosts of a routing unit, under any names of theirs that stay."""
    before = before if before and not before.overflow else None
    changed = _find_relinked(hosts, before) if before else None
    if before and changed is not None:
        return replace(before, hosts=hosts, index=before.index.with_ids(changed)) if changed else before
    ids = {key: number for domains in hosts.values() for key, number in domains.ids.items()}
    texts = [text for domains in hosts.values() for text in domains.texts]
    if len(ids) < len(texts):
        return hand_over_all(hosts, OverBound("domains with one hash", len(texts) - len(ids) + 1, 1))
    wild = frozenset(filter(is_wildcard, texts))
    if before and before.wild == wild:
        return replace(before, hosts=hosts, index=DomainIndex(ids))
    try:
        wildcards = _write_wildcards(wild, Budget(bounds)) if wild else None
    except BoundExceeded as why:
        exact = {key: number for key, number in ids.items() if key not in set(map(hash_text, wild))}
        return _hand_over(hosts, exact, why.over, "of wildcard domains")
    return Directory(hosts=hosts, index=DomainIndex(ids), wild=wild, wildcards=wildcards)


def hand_over_all(hosts: Mapping[str, HostDomains], why: OverBound) -> Directory:
    """Of no domain but "*", which is the relay's."""
    return _hand_over(hosts, {}, why, "of all domains")


def _write_wildcards(domains: Iterable[bytes], budget: Budget) -> Packed:
    return pack_pages(build_wildcards(domains, budget), budget)


def _find_relinked(hosts: Mapping[str, HostDomains], before: Directory) -> dict[int, int] | None:
    """The new ids of records, by hash, where nothing but that has changed; else None."""
    if before.hosts.keys() != hosts.keys():
        return None
    changed: dict[int, int] = {}
    for name, domains in hosts.items():
        was = before.hosts[name]
        if was is domains:
            continue
        if was.texts != domains.texts:
            return None
        changed |= domains.ids
    return changed


def _hand_over(
    hosts: Mapping[str, HostDomains],
    exact: dict[int, int],
    overflow: OverBound,
    handed_over: str,
) -> Directory:
    """Hosts with one of the `exact` domains as ever, and all others to the relay."""
    route = ROUTE.pack(Action.HANDOVER, 0, Handover.BOUND, MILLION, 0)
    link = content_id(route) & ~3 | LinkKind.ROUTE
    any_ids, any_records = write_domains((ANY,), link)
    return Directory(
        hosts=hosts,
        index=DomainIndex(exact | any_ids),
        wild=frozenset((ANY,)),
        wildcards=_write_wildcards((ANY,), Budget()),
        overflow=overflow,
        handed_over=handed_over,
        extra=((MapName.ROUTE, ID.pack(link), route), *any_records),
    )
