"""The parser: a pattern in RE2's syntax to its syntax tree.

It reads from left to right with a stack of open groups, as RE2 does, since what a flag such as (?i) changes lasts to
the end of its group, alternatives included. Options are those of Envoy's safe_regex, RE2's defaults: UTF-8, `.` does
not match a newline, ^ and $ are the ends of the text, a negated set does match a newline.

Source: RE2's syntax page; xDS: type.matcher.v3.RegexMatcher.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace

from kmesh.regex.bracket import read_bracket, read_escaped_class
from kmesh.regex.code_points import ANY, fold, negate
from kmesh.regex.escapes import Cursor, read_escaped_character
from kmesh.regex.syntax import (
    MAX_REPETITIONS,
    AnyByte,
    Assertion,
    Characters,
    Node,
    make_alternatives,
    make_concatenation,
    make_repeat,
)

__all__ = ["parse_regex"]

_NEWLINE = ((0x0A, 0x0A),)
_REPETITIONS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ASSERTIONS = {
    "A": Assertion.BEGIN_TEXT,
    "z": Assertion.END_TEXT,
    "b": Assertion.WORD_BOUNDARY,
    "B": Assertion.NO_WORD_BOUNDARY,
}
_COUNTS = re.compile(r"\{(0|[1-9][0-9]{0,8})(?:(,)(0|[1-9][0-9]{0,8})?)?\}", re.ASCII)
"""What does not read so, {,3} or {007} or a number of ten digits, is literal text to RE2."""
_NAME_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Mn", "Mc", "Nd", "Pc"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    ignore_case: bool
    dot_matches_newline: bool = False
    multi_line: bool = False
    lazy: bool = False
    """Changes no match of the whole subject."""


_FLAG_OF_LETTER = {"i": "ignore_case", "s": "dot_matches_newline", "m": "multi_line", "U": "lazy"}


@dataclass(slots=True)
class _Group:
    """An open group; the whole pattern is the outermost."""

    flags_outside: _Flags
    """What the end of the group restores."""
    alternatives: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    """Of the alternative that is being read."""

    def end_alternative(self) -> None:
        self.alternatives.append(make_concatenation(self.nodes))
        self.nodes = []

    def close(self) -> Node:
        self.end_alternative()
        return make_alternatives(self.alternatives)


def parse_regex(pattern: str, *, ignore_case: bool = False) -> Node:
    """Raises: RegexInvalid where RE2 refuses the pattern; else Unsupported for what only RE2 can match."""
    if any(0xD800 <= ord(character) <= 0xDFFF for character in pattern):
        raise Cursor(pattern).invalid("pattern that is not UTF-8")
    return _Parser(pattern, _Flags(ignore_case=ignore_case)).parse()


class _Parser:
    """The state of one parse."""

    def __init__(self, pattern: str, flags: _Flags) -> None:
        self.cursor = Cursor(pattern)
        self.flags = flags
        self.open = [_Group(flags)]
        self.has_just_repeated = False

    def parse(self) -> Node:
        while not self.cursor.is_at_end:
            self.has_just_repeated = self.read_item()
        if len(self.open) > 1:
            raise self.cursor.invalid("missing )")
        regex = self.open[0].close()
        if self.cursor.unsupported:
            raise self.cursor.unsupported
        return regex

    def read_item(self) -> bool:
        """One step; whether it was a repetition, on which no other may follow at once."""
        cursor = self.cursor
        match cursor.next:
            case "*" | "+" | "?" as operator:
                cursor.take()
                self.repeat(*_REPETITIONS[operator], counted=False)
                return True
            case "{" if counts := _COUNTS.match(cursor.pattern, cursor.at):
                cursor.at = counts.end()
                self.repeat(*self.read_counts(counts), counted=True)
                return True
            case "(":
                self.open_group()
            case ")":
                self.close_group()
            case "|":
                cursor.take()
                self.open[-1].end_alternative()
            case _:
                self.open[-1].nodes.extend(self.read_atoms())
        return False

    def read_atoms(self) -> list[Node]:
        r"""One atom, or with \Q...\E any number."""
        cursor = self.cursor
        match cursor.next:
            case "[":
                cursor.take()
                return [Characters(read_bracket(cursor, ignore_case=self.flags.ignore_case))]
            case ".":
                cursor.take()
                return [Characters(ANY if self.flags.dot_matches_newline else negate(_NEWLINE))]
            case "^":
                cursor.take()
                return [Assertion.BEGIN_LINE if self.flags.multi_line else Assertion.BEGIN_TEXT]
            case "$":
                cursor.take()
                return [Assertion.END_LINE if self.flags.multi_line else Assertion.END_TEXT]
            case "\\":
                return self.read_escape()
            case _:
                return [self.literal(ord(cursor.take()))]

    def read_escape(self) -> list[Node]:
        cursor = self.cursor
        ranges = read_escaped_class(cursor, ignore_case=self.flags.ignore_case)
        if ranges is not None:
            return [Characters(ranges)]
        cursor.take()
        if cursor.take_if("Q"):
            quoted = cursor.take_until(r"\E")
            if quoted is None:
                quoted, cursor.at = cursor.pattern[cursor.at :], len(cursor.pattern)
            return [self.literal(ord(character)) for character in quoted]
        if cursor.take_if("C"):
            return [AnyByte()]
        if cursor.next in _ASSERTIONS:
            return [_ASSERTIONS[cursor.take()]]
        return [self.literal(read_escaped_character(cursor))]

    def literal(self, code_point: int) -> Characters:
        ranges = ((code_point, code_point),)
        return Characters(fold(ranges) if self.flags.ignore_case else ranges)

    def read_counts(self, counts: re.Match[str]) -> tuple[int, int | None]:
        """{n}, {n,} or {n,m}. Raises: RegexInvalid when one is over the bound or m is below n."""
        low, comma, high = counts.groups()
        at_least = int(low)
        at_most = at_least if comma is None else int(high) if high else None
        if max(at_least, at_most or 0) > MAX_REPETITIONS or (at_most is not None and at_most < at_least):
            raise self.cursor.invalid(f"invalid repetition {counts.group()}")
        return at_least, at_most

    def repeat(self, at_least: int, at_most: int | None, *, counted: bool) -> None:
        nodes = self.open[-1].nodes
        self.cursor.take_if("?")
        if self.has_just_repeated:
            raise self.cursor.invalid("repetition of a repetition")
        if not nodes:
            raise self.cursor.invalid("nothing to repeat")
        nodes[-1] = make_repeat(nodes[-1], at_least, at_most, counted=counted)

    def open_group(self) -> None:
        self.cursor.take()
        outside = self.flags
        if self.cursor.take_if("?") and not self.take_group_name() and not self.take_flags():
            return
        self.open.append(_Group(outside))

    def close_group(self) -> None:
        if len(self.open) == 1:
            raise self.cursor.invalid("unexpected )")
        self.cursor.take()
        group = self.open.pop()
        self.flags = group.flags_outside
        self.open[-1].nodes.append(group.close())

    def take_group_name(self) -> bool:
        """P<name> or <name>, if that is next. RE2 lets groups share a name."""
        if not self.cursor.take_if("P<") and not self.cursor.take_if("<"):
            return False
        name = self.cursor.take_until(">")
        if not name or any(unicodedata.category(character) not in _NAME_CATEGORIES for character in name):
            raise self.cursor.invalid("invalid group name")
        return True

    def take_flags(self) -> bool:
        """Flags; whether they open a group of their own, (?i:, or are for the rest of this one, (?i)."""
        is_on, needs_letter = True, False
        while (letter := self.cursor.take()) not in (":", ")"):
            if letter == "-" and is_on:
                is_on, needs_letter = False, True
            elif letter in _FLAG_OF_LETTER:
                self.flags = replace(self.flags, **{_FLAG_OF_LETTER[letter]: is_on})
                needs_letter = False
            else:
                raise self.cursor.invalid("invalid flags of a group")
        if needs_letter:
            raise self.cursor.invalid("invalid flags of a group")
        return letter == ":"
