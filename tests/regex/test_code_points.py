"""Sets of code points, case folding as RE2 has it, and their UTF-8."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.automata.utf8 import encode_ranges
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


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 0x7F), (0x61, 0x7A), (0x70, 0x90), (0x7FF, 0x800), (0x3BC, 0x10345), (0xD7FF, 0xE000), (0xFFFF, 0x10000),
     (0x81, 0x2345), (0x10FFF0, LAST), (0xE0FF, 0xE0FF)],
)  # fmt: skip
def test_encode_ranges_is_exact(first: int, last: int) -> None:
    got = sorted(word for sequence in encode_ranges(((first, last),)) for word in expand(sequence))
    want = sorted(chr(code_point).encode("utf-8", "surrogatepass") for code_point in range(first, last + 1))
    assert got == want


def test_end_of_the_range_is_loose_as_in_re2() -> None:
    for ranges, pattern in ((((0x80, LAST),), r"[\x{80}-\x{10FFFF}]"), (((0x40, LAST),), r"[\x40-\x{10FFFF}]")):
        reference = compile_re2(pattern)
        assert reference is not None
        sequences = list(encode_ranges(ranges))
        for word in (
            b"\xe0\x80\x80",
            b"\xf4\xbf\xbf\xbf",
            b"\xf0\x80\x80\x80",
            b"\xc1\x80",
            b"\xf5\x80\x80\x80",
            b"A",
        ):
            got = any(is_in(word, sequence) for sequence in sequences)
            assert got == (reference.fullmatch(word) is not None), word


def expand(sequence: tuple[tuple[int, int], ...]) -> list[bytes]:
    words = [b""]
    for first, last in sequence:
        words = [word + bytes((byte,)) for word in words for byte in range(first, last + 1)]
    return words


def is_in(word: bytes, sequence: tuple[tuple[int, int], ...]) -> bool:
    fits = (first <= byte <= last for byte, (first, last) in zip(word, sequence, strict=False))
    return len(word) == len(sequence) and all(fits)
