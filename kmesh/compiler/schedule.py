"""The order of one round of weighted round robin."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm

__all__ = ["schedule_round"]


def schedule_round(weights: Sequence[int]) -> list[int]:
    """Indices in turn: each weights[i] / gcd times, spread as earliest deadline first does (Envoy's EdfScheduler).

    Turn k of an entry is due at k / weight; entries due at once go in order. [2, 1] -> [0, 0, 1]; [1, 1] -> [0, 1].
    """
    divisor = gcd(*weights)
    turns = [weight // divisor for weight in weights]
    if max(turns) == 1:
        return list(range(len(turns)))
    round_length = lcm(*turns)
    due = [
        (turn * (round_length // count), index) for index, count in enumerate(turns) for turn in range(1, count + 1)
    ]
    return [index for _, index in sorted(due)]
