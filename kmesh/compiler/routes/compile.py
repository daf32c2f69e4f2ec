"""One virtual host: its routes to records, or to one that hands every request over where that takes too much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kmesh.compiler.automata import DEFAULT_BOUNDS, BoundExceeded, Bounds, Budget, OverBound
from kmesh.compiler.routes.decide import decide
from kmesh.compiler.routes.ir import FieldKind, FieldName, Graph, HandOver, Take
from kmesh.compiler.routes.normalise import find_candidates
from kmesh.compiler.routes.unions import Unions
from kmesh.compiler.routes.write_graph import write_graph
from kmesh.maps.image import Record
from kmesh.model.route import ClusterAction, Feature, VirtualHost, WeightedClusters
from kmesh.records.constants import Handover

__all__ = ["CompiledHost", "compile_virtual_host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledHost:
    name: str
    link: int
    """To its first decision or route; 0 where it has no route."""
    records: tuple[Record, ...]
    """Pages, nodes, routes and decisions, each once."""
    headers: frozenset[str] = frozenset()
    """That its decisions look at, in lower case; no pseudo-headers."""
    parameters: frozenset[str] = frozenset()
    """Of the query, likewise."""
    clusters: frozenset[str] = frozenset()
    """That its routes lead to, whoever carries their requests."""
    limit: OverBound | None = None
    """Why every request is handed over."""


def compile_virtual_host(
    host: VirtualHost, features: tuple[Feature, ...] = (), *, bounds: Bounds = DEFAULT_BOUNDS
) -> CompiledHost:
    """`features` are those of its route configuration."""
    unions = Unions(budget=Budget(bounds))
    try:
        candidates = find_candidates(host, features, unions.budget)
        graph = decide(candidates, unions)
        link, records = write_graph(graph, unions)
    except BoundExceeded as why:
        return _hand_over(host, why.over)
    fields = frozenset(condition.field for candidate in candidates for condition in candidate.conditions)
    return CompiledHost(
        name=host.name,
        link=link,
        records=records,
        headers=frozenset(_names(fields, FieldKind.HEADER)),
        parameters=frozenset(_names(fields, FieldKind.PARAMETER)),
        clusters=frozenset(_clusters(host)),
    )


def _hand_over(host: VirtualHost, limit: OverBound) -> CompiledHost:
    graph = Graph((Take(index=0, way=HandOver(Handover.BOUND)),), 0)
    link, records = write_graph(graph, Unions(budget=Budget()))
    return CompiledHost(
        name=host.name, link=link, records=records, clusters=frozenset(_clusters(host)), limit=limit
    )


def _names(fields: Iterable[FieldName], kind: FieldKind) -> Iterator[str]:
    """Of fields whose values are to be recorded for this."""
    return (field.name for field in fields if field.kind is kind and not field.always_comes)


def _clusters(host: VirtualHost) -> Iterator[str]:
    """Up to the first route that takes all the rest."""
    for route in host.routes:
        match route.action:
            case ClusterAction(cluster=name):
                yield name
            case WeightedClusters(clusters=clusters):
                yield from (weighted.name for weighted in clusters if weighted.weight)
            case _:
                pass
        if route.matches_all:
            return
