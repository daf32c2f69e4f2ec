"""Sets of code points as sequences of byte ranges: exact, and loose where RE2 is."""

from __future__ import annotations

import pytest

from kmesh.compiler.automata.utf8 import encode_ranges
from kmesh.regex.code_points import LAST
from tests.support.automata import compile_re2


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
