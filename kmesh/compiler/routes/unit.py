"""A routing unit: one route configuration under the options of a connection manager, as fragments of the image.

Every virtual host is a fragment of its own, with its domains, and is compiled again only when it differs from the one
before; what it shares with others is shared in the kernel by content. One more fragment has what is the unit's: the
automaton that reads heads, the directory of domains, and the cell that all of it hangs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kmesh.compiler.automata import DEFAULT_BOUNDS, BoundExceeded, Bounds, Budget, Packed, pack_pages
from kmesh.compiler.ir import Routing
from kmesh.compiler.report import Report, report_bound
from kmesh.compiler.routes.answer_automaton import ANSWERS
from kmesh.compiler.routes.compile import CompiledHost, compile_virtual_host
from kmesh.compiler.routes.directory import Directory, HostDomains, hand_over_all, make_directory
from kmesh.compiler.routes.domains import domain_texts, write_domains
from kmesh.compiler.routes.fields import header_field, parameter_field
from kmesh.compiler.routes.head_automaton import build_head_automaton
from kmesh.compiler.routes.normalise import find_candidates
from kmesh.compiler.routes.printer import print_candidates
from kmesh.compiler.routes.reports import report_configuration, report_virtual_host
from kmesh.maps.image import Fragment, MapName, Record
from kmesh.model.listener import EscapedSlashes, Normalization, StripPort
from kmesh.model.route import ClusterHeader, Feature, VirtualHost
from kmesh.records.constants import Action, Mark, RoutesFlag
from kmesh.records.digest import content_id, name_id
from kmesh.records.layout import CELL, ID, ROUTES
from kmesh.records.seal import seal

__all__ = ["HostUnit", "RoutingUnit", "compile_routing", "print_host", "routing_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUnit:
    host: VirtualHost
    compiled: CompiledHost
    domains: HostDomains
    fragment: Fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Headers and query parameters that some route of a unit looks at."""

    headers: frozenset[str]
    parameters: frozenset[str]


_NO_NAMES = _Names(headers=frozenset(), parameters=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingUnit:
    routing: Routing
    hosts: Mapping[str, HostUnit]
    """By first domain, which no other virtual host has; names may repeat."""
    directory: Directory
    names: _Names
    """That the automaton knows: none where they take too much, and everything is handed over."""
    head: Packed
    fragment: Fragment
    """What is not of one virtual host."""

    @property
    def fragments(self) -> Iterator[tuple[tuple[str, str], Fragment]]:
        """By unit of the image."""
        yield ("routes", self.routing.name), self.fragment
        for domain, unit in self.hosts.items():
            yield ("virtual host", f"{self.routing.name} {domain}"), unit.fragment

    @property
    def clusters(self) -> frozenset[str]:
        """That its routes lead to, and connections that take none."""
        undetected = self.routing.undetected
        whole = (*undetected.clusters, *undetected.http2) if undetected else ()
        names = frozenset(cluster.name for cluster in whole)
        return names.union(*(unit.compiled.clusters for unit in self.hosts.values()))

    @property
    def leads_anywhere(self) -> bool:
        """Requests name their cluster themselves, so it may be any."""
        routes = (route for unit in self.hosts.values() for route in unit.host.routes)
        return any(isinstance(route.action, ClusterHeader) for route in routes)

    @property
    def reports(self) -> Iterator[Report]:
        """Of what is over a bound, and of features that the kernel does not do."""
        yield from report_configuration(self.routing.config)
        name, overflow = self.routing.config.name, self.directory.overflow
        if overflow:
            yield report_bound(name, self.directory.handed_over, overflow.bound, overflow.needed, overflow.limit)
        for unit in self.hosts.values():
            yield from report_virtual_host(name, unit.host)
            limit = unit.compiled.limit
            if limit:
                yield report_bound(name, unit.host.name, limit.bound, limit.needed, limit.limit)


def print_host(unit: RoutingUnit, host: HostUnit) -> str:
    """Its domains and the routes that requests can take, as conditions; the bound that it is over, where it is."""
    lines = [f"virtual host {host.host.name} of {unit.routing.name}", *host.host.domains]
    if host.compiled.limit:
        lines.append(f"over a bound: {host.compiled.limit.needed} {host.compiled.limit.bound}")
    else:
        candidates = find_candidates(host.host, unit.routing.config.features, Budget())
        lines += print_candidates(candidates).splitlines()
    return "\n  ".join(lines)


def routing_id(name: str) -> int:
    """The key of a routing unit's cell."""
    return name_id("routes", name)


def compile_routing(
    routing: Routing, before: RoutingUnit | None = None, *, bounds: Bounds = DEFAULT_BOUNDS
) -> RoutingUnit:
    """`before` is what the unit of that name was; what did not change is taken from there."""
    if before and before.routing == routing:
        return before
    features = routing.config.features
    known = before.hosts if before and before.routing.config.features == features else {}
    hosts = {
        host.domains[0]: _compile_host(host, features, known.get(host.domains[0]), bounds)
        for host in routing.config.virtual_hosts
    }
    domains = {name: unit.domains for name, unit in hosts.items()}
    directory = make_directory(domains, before.directory if before else None, bounds)
    names = _Names(
        headers=frozenset().union(*(unit.compiled.headers for unit in hosts.values())),
        parameters=frozenset().union(*(unit.compiled.parameters for unit in hosts.values())),
    )
    try:
        head = before.head if before and before.names == names else _write_head(names, bounds)
    except BoundExceeded as why:
        names = _NO_NAMES
        head = _write_head(names, DEFAULT_BOUNDS)
        directory = hand_over_all(domains, why.over)
    return RoutingUnit(
        routing=routing,
        hosts=hosts,
        directory=directory,
        names=names,
        head=head,
        fragment=Fragment.of(_write_unit(routing, directory, head)),
    )


def _compile_host(
    host: VirtualHost, features: tuple[Feature, ...], known: HostUnit | None, bounds: Bounds
) -> HostUnit:
    if known and (known.host is host or known.host == host):
        return known
    compiled = compile_virtual_host(host, features, bounds=bounds)
    texts = domain_texts(host)
    ids, records = write_domains(texts, compiled.link)
    return HostUnit(
        host=host,
        compiled=compiled,
        domains=HostDomains(texts=texts, ids=ids),
        fragment=Fragment.of((*compiled.records, *records)),
    )


def _write_head(names: _Names, bounds: Bounds) -> Packed:
    """Raises: BoundExceeded."""
    headers = {name.encode(): header_field(name) for name in sorted(names.headers)}
    parameters = {name.encode(): parameter_field(name) for name in sorted(names.parameters)}
    budget = Budget(bounds)
    return pack_pages(build_head_automaton(headers, parameters, budget), budget)


def _write_unit(routing: Routing, directory: Directory, head: Packed) -> Iterator[Record]:
    yield from ((MapName.PAGE, key, page) for key, page in head.records)
    yield from ((MapName.PAGE, key, page) for key, page in ANSWERS.records)
    yield from directory.records
    record = ROUTES.pack(
        head.automaton,
        directory.index.root,
        directory.wildcards.automaton if directory.wildcards else 0,
        _find_flags(routing),
        _find_relayed_marks(routing),
        ANSWERS.automaton,
    )
    routes = content_id(record)
    yield MapName.ROUTES, ID.pack(routes), record
    key = ID.pack(routing_id(routing.name))
    yield MapName.ROUTING, key, CELL.pack(routes, Action.ROUTES, seal(key, routes, Action.ROUTES))


def _find_flags(routing: Routing) -> RoutesFlag:
    options = routing.normalization
    flags = {
        RoutesFlag.IGNORE_PORT: routing.config.ignores_port,
        RoutesFlag.STRIP_PORT: options.strip_port is StripPort.ANY,
        RoutesFlag.STRIP_MATCHING_PORT: options.strip_port is StripPort.MATCHING,
        RoutesFlag.STRIP_DOT: options.strips_trailing_dot,
    }
    return RoutesFlag(sum(flag for flag, is_set in flags.items() if is_set))


def _find_relayed_marks(routing: Routing) -> Mark:
    """What of a path its options might change, or read in another way than the automata do."""
    options: Normalization = routing.normalization
    marks = Mark(0)
    if options.normalizes_path:
        marks |= Mark.DOT | Mark.PERCENT | Mark.BACKSLASH | Mark.ESCAPABLE
    if options.merges_slashes:
        marks |= Mark.DOUBLE_SLASH
    if options.escaped_slashes is not EscapedSlashes.KEEP_UNCHANGED:
        marks |= Mark.PERCENT
    if routing.config.ignores_path_parameters:
        marks |= Mark.PARAMETER
    return marks
