r"""Ranges of code points as ranges of UTF-8 bytes, exactly as RE2 cuts them.

U+0400 to U+07FF, for one, is D0-DF 80-BF. Within a length, a range is cut until in each piece every byte after the
first differing one takes all of 80-BF, so that a piece is one byte range per position.

RE2 takes two liberties that a peer of it must share, since header values need not be UTF-8. Surrogates are encoded
like any other code point. And the range U+0080 to U+10FFFF, which ends `.` and [^/], is written as C2-DF 80-BF |
E0-EF 80-BF 80-BF | F0-F4 80-BF 80-BF 80-BF: smaller, but it also takes overlong forms (E0 80 80) and code points
beyond the last (F4 BF BF BF). Any other byte that is not UTF-8 matches no set, and `.` neither.

Source: RE2, compile.cc (Add_80_10ffff); RFC 3629 section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmesh.regex.code_points import LAST, Ranges

__all__ = ["ByteRanges", "encode_ranges"]

ByteRanges = tuple[tuple[int, int], ...]
"""One (first, last) pair of bytes for each position, both included."""

_TAIL = (0x80, 0xBF)
_LOOSE: tuple[ByteRanges, ...] = (
    ((0xC2, 0xDF), _TAIL),
    ((0xE0, 0xEF), _TAIL, _TAIL),
    ((0xF0, 0xF4), _TAIL, _TAIL, _TAIL),
)
_LAST_OF_LENGTH = (0x7F, 0x7FF, 0xFFFF, LAST)


def encode_ranges(ranges: Ranges) -> Iterator[ByteRanges]:
    for first, last in ranges:
        yield from _encode_range(first, last)


def _encode_range(first: int, last: int) -> Iterator[ByteRanges]:
    if first <= 0x80 and last == LAST:
        if first < 0x80:
            yield ((first, 0x7F),)
        yield from _LOOSE
        return
    for end in _LAST_OF_LENGTH:
        if first <= end:
            yield from _encode_one_length(first, min(last, end))
            first = end + 1
        if first > last:
            return


def _encode_one_length(first: int, last: int) -> Iterator[ByteRanges]:
    """Both ends take equally many bytes."""
    low, high = _encode(first), _encode(last)
    for tail_bits in range(6 * (len(low) - 1), 0, -6):
        mask = (1 << tail_bits) - 1
        if first & ~mask == last & ~mask:
            continue
        if first & mask:
            yield from _encode_one_length(first, first | mask)
            yield from _encode_one_length((first | mask) + 1, last)
            return
        if last & mask != mask:
            yield from _encode_one_length(first, (last & ~mask) - 1)
            yield from _encode_one_length(last & ~mask, last)
            return
    yield tuple(zip(low, high, strict=True))


def _encode(code_point: int) -> bytes:
    return chr(code_point).encode("utf-8", "surrogatepass")
