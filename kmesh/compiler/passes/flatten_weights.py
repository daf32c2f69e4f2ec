"""Random choices directly under random choices become one, while it fits one node: one draw instead of several.

    weighted
      1: refuse overload_drop
      9: weighted
        70: rotate 0/healthy
        30: rotate 1/healthy
 -> weighted
      10: refuse overload_drop
      63: rotate 0/healthy
      27: rotate 1/healthy
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, lcm

from kmesh.compiler.ir import Choice, Program, Share, Weighted
from kmesh.compiler.rewrite import rewrite_clusters
from kmesh.records.constants import LIMITS

__all__ = ["flatten_weights"]


def flatten_weights(program: Program) -> Program:
    return rewrite_clusters(program, lambda _unit, choice, _found: _flatten(choice))


def _flatten(choice: Choice) -> Choice:
    if not isinstance(choice, Weighted):
        return choice
    nested = [share.choice.shares for share in choice.shares if isinstance(share.choice, Weighted)]
    if not nested or len(choice.shares) + sum(len(s) - 1 for s in nested) > LIMITS["NODE_FANOUT"]:
        return choice
    scale = lcm(*(_sum_weights(shares) for shares in nested))
    flat = tuple(_inline(choice.shares, scale))
    divisor = gcd(*(share.weight for share in flat))
    return Weighted(tuple(Share(share.weight // divisor, share.choice) for share in flat))


def _inline(shares: tuple[Share, ...], scale: int) -> Iterator[Share]:
    for share in shares:
        match share.choice:
            case Weighted(inner):
                unit = share.weight * (scale // _sum_weights(inner))
                yield from (Share(unit * s.weight, s.choice) for s in inner)
            case _:
                yield Share(share.weight * scale, share.choice)


def _sum_weights(shares: tuple[Share, ...]) -> int:
    return sum(share.weight for share in shares)
