"""Alias tables: a weighted choice among n entries in O(1), from two 32-bit draws.

The first draw takes entry i = (draw * n) >> 32, the second stays when draw <= threshold[i], else goes to alias[i].
The tables are made with exact integers (Vose's method), so the only errors are those of 32-bit numbers: the first
draw's share of an entry is within 2**-32 of 1/n, a threshold's within 2**-32 of the exact one. With n <= 64 the
probability of an entry is therefore within n * 2**-32 + 2**-32 < 2**-25 of weight / sum(weights), and never 0.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ALWAYS", "make_alias_table"]

ALWAYS = (1 << 32) - 1
"""The threshold that every draw meets."""


def make_alias_table(weights: Sequence[int]) -> list[tuple[int, int]]:
    """(threshold, alias) of each entry. Weights are positive integers of any size."""
    total = sum(weights)
    filled = [weight * len(weights) for weight in weights]  # an entry holds `total`
    table = [(ALWAYS, index) for index in range(len(weights))]
    small = [index for index, amount in enumerate(filled) if amount < total]
    large = [index for index, amount in enumerate(filled) if amount > total]
    while small:
        short, long = small.pop(), large[-1]
        table[short] = (_threshold(filled[short], total), long)
        filled[long] -= total - filled[short]
        if filled[long] <= total:
            large.pop()
        if filled[long] < total:
            small.append(long)
    return table


def _threshold(amount: int, total: int) -> int:
    """The largest draw that stays, so that nearest to amount / total of all draws do; at least one does."""
    draws = ((amount << 33) + total) // (2 * total)
    return min(max(draws, 1) - 1, ALWAYS)
