"""Sets of code points as sorted, disjoint, non-adjacent ranges, and Unicode simple case folding.

Pure. Surrogates are ordinary members: RE2 treats them so. Folding follows the Unicode version of the interpreter,
and RE2 its own; in what both know they agree, which the tests check character by character.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cache

__all__ = ["ANY", "LAST", "Ranges", "fold", "make_ranges", "negate"]

Ranges = tuple[tuple[int, int], ...]
"""(first, last) pairs, both included."""

LAST = 0x10FFFF
ANY: Ranges = ((0, LAST),)
_END_OF_CASED = 0x20000  # no script beyond the supplementary multilingual plane has case
_FOLDING_OF_UNICODE_15_1 = {0x1FD3: 0x0390, 0x1FE3: 0x03B0, 0xFB05: 0xFB06}
"""Old characters that the newer version made equal."""


def make_ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """The canonical form of any ranges, in any order, overlapping or not."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def negate(ranges: Ranges) -> Ranges:
    """Every code point that is not in `ranges`."""
    firsts = [0, *(last + 1 for _, last in ranges)]
    lasts = [*(first - 1 for first, _ in ranges), LAST]
    return tuple((first, last) for first, last in zip(firsts, lasts, strict=True) if first <= last)


def fold(ranges: Ranges) -> Ranges:
    """`ranges` and everything that differs from a member only in case, as K, k and U+212A KELVIN SIGN do."""
    orbits, cased = _orbits()
    pairs = list(ranges)
    for first, last in ranges:
        for code_point in cased[bisect_left(cased, first) : bisect_right(cased, last)]:
            pairs.extend((member, member) for member in orbits[code_point])
    return make_ranges(pairs)


@cache
def _orbits() -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """For every code point with case, all that fold as it does; and those code points, sorted."""
    by_key: dict[int, list[int]] = {}
    for code_point in range(_END_OF_CASED):
        by_key.setdefault(_folding_key(code_point), []).append(code_point)
    orbits = {member: tuple(orbit) for orbit in by_key.values() if len(orbit) > 1 for member in orbit}
    return orbits, sorted(orbits)


def _folding_key(code_point: int) -> int:
    """The simple case folding of CaseFolding.txt: `casefold` where that is one character, else `lower`."""
    if code_point in _FOLDING_OF_UNICODE_15_1:
        return _FOLDING_OF_UNICODE_15_1[code_point]
    character = chr(code_point)
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return ord(folded)
    return code_point
