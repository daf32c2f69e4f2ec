"""How passes walk a program: replace choices by rule, keep everything that the rule leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import is_

from kmesh.compiler.ir import Choice, ClusterUnit, ListenerUnit, OneOf, Outcome, Program, Share, Weighted
from kmesh.compiler.report import Report

__all__ = ["Found", "rewrite_choice", "rewrite_clusters", "rewrite_listeners"]

Found = list[Report]
"""A rule adds what it has to report."""


def rewrite_choice(choice: Choice, rule: Callable[[Choice], Choice]) -> Choice:
    """Apply `rule` bottom up: to what is under a Weighted or a OneOf first, then to itself."""
    match choice:
        case Weighted(shares):
            choice = Weighted(tuple(Share(s.weight, rewrite_choice(s.choice, rule)) for s in shares))
        case OneOf(outcomes=outcomes):
            choice = replace(
                choice, outcomes=tuple(Outcome(o.chain, rewrite_choice(o.choice, rule)) for o in outcomes)
            )
        case _:
            pass
    return rule(choice)


def rewrite_listeners(program: Program, rule: Callable[[ListenerUnit, Choice, Found], Choice]) -> Program:
    """Apply `rule` to every choice of every frontend."""
    return replace(program, listeners=tuple(_rewrite_listener(unit, rule) for unit in program.listeners))


def rewrite_clusters(program: Program, rule: Callable[[ClusterUnit, Choice, Found], Choice]) -> Program:
    """Apply `rule` to every choice of every cluster."""
    return replace(program, clusters=tuple(_rewrite_cluster(unit, rule) for unit in program.clusters))


def _rewrite_listener(unit: ListenerUnit, rule: Callable[[ListenerUnit, Choice, Found], Choice]) -> ListenerUnit:
    found: Found = []
    before = [frontend.choice for frontend in unit.frontends]
    after = [rewrite_choice(choice, lambda choice: rule(unit, choice, found)) for choice in before]
    if not found and all(map(is_, before, after)):
        return unit
    pairs = zip(unit.frontends, after, strict=True)
    frontends = tuple(replace(frontend, choice=choice) for frontend, choice in pairs)
    return replace(unit, frontends=frontends, reports=_add(unit.reports, found))


def _rewrite_cluster(unit: ClusterUnit, rule: Callable[[ClusterUnit, Choice, Found], Choice]) -> ClusterUnit:
    found: Found = []
    choice = rewrite_choice(unit.choice, lambda choice: rule(unit, choice, found))
    if not found and choice is unit.choice:
        return unit
    return replace(unit, choice=choice, reports=_add(unit.reports, found))


def _add(reports: tuple[Report, ...], found: Found) -> tuple[Report, ...]:
    """Each report once: a chain that several frontends share is reported by each."""
    return tuple(dict.fromkeys((*reports, *found))) if found else reports
