"""Sets of code points, and case folding as RE2 has it."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.regex.code_points import ANY, LAST, fold, make_ranges, negate
from tests.support.automata import compile_re2

CASED = ("Lu", "Ll", "Lt", "Nl", "So", "Mn")

pairs = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (min(pair), max(pair)))


@given(drawn=st.lists(pairs))
def test_make_ranges(drawn: list[tuple[int, int]]) -> None:
    got = make_ranges(drawn)
    want = {member for first, last in drawn for member in range(first, last + 1)}
    assert {member for first, last in got for member in range(first, last + 1)} == want
    assert all(left[1] + 1 < right[0] for left, right in pairwise(got))


@pytest.mark.parametrize(
    ("ranges", "want"),
    [
        ((), ANY),
        (ANY, ()),
        (((0, 9),), ((10, LAST),)),
        (((5, LAST),), ((0, 4),)),
        (((1, 2), (4, 4)), ((0, 0), (3, 3), (5, LAST))),
    ],
)
def test_negate(ranges: tuple[tuple[int, int], ...], want: tuple[tuple[int, int], ...]) -> None:
    assert negate(ranges) == want
    assert negate(want) == ranges


def test_fold_is_re2s() -> None:
    """Every character of the categories that case exists in, against all of them."""
    cased = [chr(number) for number in range(0x20000) if unicodedata.category(chr(number)) in CASED]
    text = "".join(cased)
    for character in cased:
        reference = compile_re2(f"(?i)[{character}]")
        assert reference is not None
        orbit = fold(((ord(character), ord(character)),))
        got = "".join(chr(member) for first, last in orbit for member in range(first, last + 1))
        want = "".join(reference.findall(text))
        assert got == want, hex(ord(character))
