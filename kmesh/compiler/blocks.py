"""Cutting a sorted set of 64-bit keys into blocks that stay put when the set changes by one.

Keys are hashes, so they lie evenly. A block is a largest binary prefix (the keys that agree in their first k bits)
that holds at most `limit` keys, so a block depends on the set alone, not on how the set came about, and only on the
keys near it. Adding a key changes one block, or splits one of limit + 1 into exactly two; removing one does the
reverse. A directory over the blocks is cut the same way by their first keys: a block split in two is one key more, so
again one directory block changes or splits in two. One change of an endpoint thus rewrites at most two nodes of each
level and a new root, whatever the number of endpoints. Blocks are 69 % full on average (ln 2), as in a B-tree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["cut_blocks"]

_KEY_BITS = 64


def cut_blocks(keys: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """(start, end) of each block, in order, none empty. `keys` are distinct, sorted and below 2**64."""
    blocks = []
    pending = [(0, len(keys), _KEY_BITS)]
    while pending:
        start, end, free_bits = pending.pop()
        if end - start > limit:
            free_bits -= 1
            upper_half = (keys[start] >> free_bits | 1) << free_bits
            middle = bisect_left(keys, upper_half, start, end)
            pending += [(middle, end, free_bits), (start, middle, free_bits)]
        elif end > start:
            blocks.append((start, end))
    return blocks
