"""What must hold of a program between passes. Tests check it after each; a violation is a bug of a pass.

- A destination is captured once in a program.
- A choice is of a kind its unit may have: clusters are led to by listeners only, and only clusters have endpoints.
- A Weighted has two shares or more, of positive weight; endpoints are at least one, a Rotate's at least two.
- A group name stands for one set of endpoints within its cluster, since it names their cursor.
- A finished program has only what can be emitted.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.compiler.ir import (
    Chains,
    Choice,
    ClusterUnit,
    Endpoints,
    Filtered,
    Hosts,
    Members,
    OneOf,
    Pass,
    Program,
    Refuse,
    Rotate,
    Spread,
    ToCluster,
    ToRoutes,
    Unresolved,
    Weighted,
    leaves,
)

__all__ = ["find_violations"]

_OF_LISTENERS = (Chains, Filtered, OneOf, Weighted, ToCluster, ToRoutes, Refuse)
_OF_CLUSTERS = (Unresolved, Members, Hosts, Endpoints, Spread, Rotate, Weighted, Refuse, Pass)
_FINISHED = (Refuse, Pass, ToCluster, ToRoutes, Weighted, Spread, Rotate)


def find_violations(program: Program, *, is_finished: bool = False) -> list[str]:
    """A sentence for each; empty for a sound program."""
    return [*_check_listeners(program, is_finished), *_check_clusters(program, is_finished)]


def _check_listeners(program: Program, is_finished: bool) -> Iterator[str]:
    seen = set()
    for unit in program.listeners:
        for frontend in unit.frontends:
            destination = frontend.addr16, frontend.port, frontend.protocol
            if destination in seen:
                yield f"listener {unit.name}: destination {destination} is captured twice"
            seen.add(destination)
            yield from _check_tree(f"listener {unit.name}", frontend.choice, _OF_LISTENERS, is_finished)


def _check_clusters(program: Program, is_finished: bool) -> Iterator[str]:
    for unit in program.clusters:
        yield from _check_tree(f"cluster {unit.name}", unit.choice, _OF_CLUSTERS, is_finished)
        yield from _check_groups(unit)


def _check_groups(unit: ClusterUnit) -> Iterator[str]:
    groups = [leaf.group for leaf in leaves(unit.choice) if isinstance(leaf, (Endpoints, Rotate))]
    if len(groups) != len(set(groups)):
        yield f"cluster {unit.name}: a group of endpoints appears twice in {groups}"


def _check_tree(unit: str, choice: Choice, allowed: tuple[type, ...], is_finished: bool) -> Iterator[str]:
    if not isinstance(choice, allowed):
        yield f"{unit}: has a {type(choice).__name__}"
    if is_finished and not isinstance(choice, _FINISHED):
        yield f"{unit}: {type(choice).__name__} is not lowered"
    match choice:
        case Weighted(shares):
            if len(shares) < 2 or any(share.weight < 1 for share in shares):
                yield f"{unit}: weights {[share.weight for share in shares]}"
            for share in shares:
                yield from _check_tree(unit, share.choice, allowed, is_finished)
        case OneOf(outcomes=outcomes):
            if len(outcomes) < 2:
                yield f"{unit}: one of {len(outcomes)} outcomes"
            for outcome in outcomes:
                yield from _check_tree(unit, outcome.choice, allowed, is_finished)
        case Endpoints(endpoints=endpoints) | Spread(endpoints=endpoints) if not endpoints:
            yield f"{unit}: no endpoints to choose from"
        case Rotate(endpoints=endpoints) if len(endpoints) < 2:
            yield f"{unit}: {len(endpoints)} endpoints in turn"
        case _:
            pass
