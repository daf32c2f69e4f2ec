r"""Sets of characters in a pattern: [a-z], [^/], [[:alpha:]_], \d, \W.

Case is folded before a set is negated: (?i)[^k] leaves out k, K and U+212A. Source: RE2's syntax page.
"""

from __future__ import annotations

from kmesh.errors import Unsupported
from kmesh.regex.code_points import ANY, Ranges, fold, make_ranges, negate
from kmesh.regex.escapes import Cursor, read_escaped_character
from kmesh.regex.named_classes import PERL, POSIX

__all__ = ["read_bracket", "read_escaped_class"]


def read_bracket(cursor: Cursor, *, ignore_case: bool) -> Ranges:
    """A set, after its opening bracket. Raises: RegexInvalid."""
    is_negated = cursor.take_if("^")
    members: list[tuple[int, int]] = []
    is_first = True
    while is_first or cursor.next != "]":
        if cursor.is_at_end:
            raise cursor.invalid("missing ]")
        members.extend(_read_item(cursor, ignore_case=ignore_case))
        is_first = False
    cursor.take()
    ranges = make_ranges(members)
    return negate(ranges) if is_negated else ranges


def read_escaped_class(cursor: Cursor, *, ignore_case: bool) -> Ranges | None:
    r"""\d, \pL and their like, which start here at the backslash; None, and nothing read, for any other escape."""
    letter = cursor.pattern[cursor.at + 1 : cursor.at + 2] if cursor.next == "\\" else ""
    if letter in ("p", "P"):
        return _read_unicode_class(cursor)
    if not letter or letter.lower() not in PERL:
        return None
    cursor.at += 2
    return _resolve(PERL[letter.lower()], is_negated=letter.isupper(), ignore_case=ignore_case)


def _read_item(cursor: Cursor, *, ignore_case: bool) -> Ranges:
    if cursor.starts_with("[:") and (posix := _read_posix_class(cursor, ignore_case=ignore_case)) is not None:
        return posix
    if (escaped := read_escaped_class(cursor, ignore_case=ignore_case)) is not None:
        return escaped
    first = last = _read_member(cursor)
    if cursor.next == "-" and not cursor.starts_with("-]"):
        cursor.take()
        last = _read_member(cursor)
    if last < first:
        raise cursor.invalid("range from a higher to a lower character")
    return fold(((first, last),)) if ignore_case else ((first, last),)


def _read_member(cursor: Cursor) -> int:
    if cursor.is_at_end:
        raise cursor.invalid("missing ]")
    return read_escaped_character(cursor) if cursor.take_if("\\") else ord(cursor.take())


def _read_posix_class(cursor: Cursor, *, ignore_case: bool) -> Ranges | None:
    """None, and nothing read, when no `:]` follows: then the bracket is a member like any other."""
    end = cursor.pattern.find(":]", cursor.at + 2)
    if end < 0:
        return None
    name = cursor.pattern[cursor.at + 2 : end]
    cursor.at = end + 2
    if name.removeprefix("^") not in POSIX:
        raise cursor.invalid(f"unknown class [:{name}:]")
    return _resolve(POSIX[name.removeprefix("^")], is_negated=name.startswith("^"), ignore_case=ignore_case)


def _read_unicode_class(cursor: Cursor) -> Ranges:
    r"""\pL, \p{Greek}, \P{^Lu}: noted as unsupported, except for \p{Any}, and read on as any character.

    Their members change with every version of Unicode, and nothing says which one the peer's RE2 has, nor which names
    it knows.
    """
    start = cursor.at
    cursor.at += 1
    is_negated = cursor.take() == "P"
    name = cursor.take_until("}") if cursor.take_if("{") else cursor.take()
    if not name:
        raise cursor.invalid(r"\p without a name")
    if name.removeprefix("^") != "Any":
        unsupported = Unsupported(f"the Unicode class {cursor.pattern[start : cursor.at]}", "its pattern")
        cursor.unsupported = cursor.unsupported or unsupported
        return ANY
    return () if is_negated != name.startswith("^") else ANY


def _resolve(ranges: Ranges, *, is_negated: bool, ignore_case: bool) -> Ranges:
    folded = fold(ranges) if ignore_case else ranges
    return negate(folded) if is_negated else folded
