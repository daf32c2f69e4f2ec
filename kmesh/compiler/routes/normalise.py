"""Routes -> candidates: those that some request can take, in order, up to the first that takes all the rest.

    /a, x-b exact "c" -> one          0: path prefix "/a", header x-b exact "c" -> cluster one
    /a, a quarter -> two          ->  1: path prefix "/a", 250000 of a million -> cluster two
    /a, none -> three                 3: always -> hand over: action
    / -> redirect
    / -> four

Where a condition cannot be decided here the others still narrow the route, and who takes it is handed over: nothing
is ever matched more broadly and then acted on. So is everyone whose virtual host asks for what nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.compiler.automata import Budget
from kmesh.compiler.routes.conditions import find_conditions
from kmesh.compiler.routes.ir import Candidate, HandOver
from kmesh.compiler.routes.place import find_furthest, find_way
from kmesh.model.route import Feature, VirtualHost
from kmesh.model.route_features import Place
from kmesh.records.constants import Handover

__all__ = ["find_candidates"]

_REFUSED = HandOver(Handover.REFUSED)


def find_candidates(host: VirtualHost, features: tuple[Feature, ...], budget: Budget) -> tuple[Candidate, ...]:
    """`features` are those of its route configuration. Raises: BoundExceeded."""
    place = find_furthest(host.features + features)
    if place is Place.REFUSED:
        return (Candidate(index=0, conditions=(), way=_REFUSED),)
    return tuple(_take_reachable(host, place, budget))


def _take_reachable(host: VirtualHost, place: Place, budget: Budget) -> Iterator[Candidate]:
    for index, route in enumerate(host.routes):
        if not route.match.per_million:
            continue
        conditions, is_complete = find_conditions(route.match, budget)
        if conditions is None:
            continue
        way = find_way(route, place) if is_complete else _REFUSED
        candidate = Candidate(index=index, conditions=conditions, per_million=route.match.per_million, way=way)
        yield candidate
        if not conditions and candidate.is_certain:
            return
