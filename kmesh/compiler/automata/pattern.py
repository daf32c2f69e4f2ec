"""The patterns that a field's automaton can hold, and what each one means, plainly.

`Text.matches` and `Integers.matches` are the definitions; the compiled automata must agree with them. A regex has no
plain definition here: RE2 is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

__all__ = ["Integers", "Kind", "Pattern", "Regex", "Text"]

_INT64 = range(-(1 << 63), 1 << 63)
_ASCII_SPACE = b"\t\n\v\f\r "


class Kind(Enum):
    """How a text is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    SEPARATED_PREFIX = "separated prefix"
    """The text, and then the end or a slash."""
    SUFFIX = "suffix"
    CONTAINS = "contains"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    kind: Kind
    text: bytes
    ignore_case: bool = False
    """Of ASCII letters only."""

    def matches(self, subject: bytes) -> bool:
        text = self.text
        if self.ignore_case:
            text, subject = text.lower(), subject.lower()
        match self.kind:
            case Kind.EXACT:
                return subject == text
            case Kind.PREFIX:
                return subject.startswith(text)
            case Kind.SEPARATED_PREFIX:
                return subject == text or subject.startswith(text + b"/")
            case Kind.SUFFIX:
                return subject.endswith(text)
            case Kind.CONTAINS:
                return text in subject
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers:
    """A 64-bit decimal integer from `start` to before `end`, as absl::SimpleAtoi reads one.

    White space around it, a sign and leading zeros are allowed. Source: Envoy, HeaderUtility::HeaderDataRangeMatch.
    """

    start: int
    end: int

    def matches(self, subject: bytes) -> bool:
        number = subject.strip(_ASCII_SPACE)
        digits = number[1:] if number[:1] in (b"+", b"-") else number
        if not digits.isdigit():
            return False
        value = -int(digits) if number[:1] == b"-" else int(digits)
        return value in _INT64 and self.start <= value < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    """The whole subject, in RE2's syntax."""

    pattern: str
    ignore_case: bool = False


Pattern = Text | Integers | Regex
