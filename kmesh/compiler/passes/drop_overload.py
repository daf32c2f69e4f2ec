"""Overload drops come before balancing: each category takes its share of what the ones before it left.

    members of web, drops 10 % and 50 %
 -> weighted
      11: refuse overload_drop
      9: members of web
"""

from __future__ import annotations

from math import gcd, prod

from kmesh.compiler.ir import Choice, ClusterUnit, Members, Program, Refuse, Share, weigh
from kmesh.compiler.report import Report
from kmesh.compiler.rewrite import rewrite_clusters
from kmesh.records.constants import Reason

__all__ = ["drop_overload"]

_MILLION = 1_000_000


def drop_overload(program: Program) -> Program:
    return rewrite_clusters(program, _drop)


def _drop(_unit: ClusterUnit, choice: Choice, _found: list[Report]) -> Choice:
    if not isinstance(choice, Members) or not choice.assignment.drops:
        return choice
    kept = [_MILLION - min(drop.per_million, _MILLION) for drop in choice.assignment.drops]
    whole, keep = _MILLION ** len(kept), prod(kept)
    divisor = gcd(whole, keep)
    return weigh((Share((whole - keep) // divisor, Refuse(Reason.OVERLOAD_DROP)), Share(keep // divisor, choice)))
