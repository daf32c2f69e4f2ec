"""A range of integers as an automaton over their decimal digits.

A range is cut, as code points are for UTF-8, into pieces whose last digits take all of 0-9: 35 to 212 is 3[5-9] |
[4-9][0-9] | 1[0-9][0-9] | 20[0-9] | 21[0-2]. White space, sign and zeros in front are added around them, as in
`Integers`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.dfa import Dfa
from kmesh.compiler.automata.minimise import minimise
from kmesh.compiler.automata.nfa import Nfa
from kmesh.compiler.automata.pattern import Integers
from kmesh.compiler.automata.subset import determinise
from kmesh.regex.code_points import make_ranges
from kmesh.regex.named_classes import POSIX
from kmesh.regex.syntax import (
    Characters,
    Node,
    make_alternatives,
    make_concatenation,
    make_repeat,
)

__all__ = ["compile_integers"]

_MAX = (1 << 63) - 1


def compile_integers(integers: Integers, budget: Budget) -> Dfa:
    """19 digits at most, in few pieces. Raises: BoundExceeded when the budget is spent."""
    first, last = max(integers.start, -_MAX - 1), min(integers.end - 1, _MAX)
    signed = [
        _signed("+", required=False, first=max(first, 0), last=last),
        _signed("-", required=True, first=max(-last, 0), last=-first),
    ]
    spaces = make_repeat(Characters(POSIX["space"]), 0, None, counted=False)
    number = make_concatenation((spaces, make_alternatives(signed), spaces))
    return minimise(determinise(Nfa(number, budget), budget), budget)


def _signed(sign: str, *, required: bool, first: int, last: int) -> Node:
    """Integers of this sign, by absolute value; none when `first` is above `last`."""
    signs = make_repeat(_one_of(sign, sign), int(required), 1, counted=False)
    zeros = make_repeat(_one_of("0", "0"), 0, None, counted=False)
    magnitudes = [make_concatenation(piece) for piece in _cut(first, last)]
    return make_concatenation((signs, zeros, make_alternatives(magnitudes)))


def _cut(first: int, last: int) -> Iterator[list[Node]]:
    """Pieces of first to last, both not negative, without zeros in front but for 0 itself."""
    while first <= last:
        end = _end_of_piece(first, last)
        yield [_one_of(low, high) for low, high in zip(str(first), str(end), strict=True)]
        first = end + 1


def _end_of_piece(first: int, last: int) -> int:
    """The last number of the largest piece that starts at `first`: its last digits go from all 0 to all 9."""
    block = 1
    while first % (block * 10) == 0 and first + block * 10 - 1 <= last and first >= block * 10:
        block *= 10
    digit = first // block % 10
    blocks = min(9 - digit, (last - first + 1) // block - 1)
    return first + (blocks + 1) * block - 1


def _one_of(low: str, high: str) -> Characters:
    return Characters(make_ranges(((ord(low), ord(high)),)))
