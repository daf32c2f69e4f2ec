r"""Reading a pattern: a cursor, and the escapes that stand for one character (\n, \x41, \x{1F600}, \012, \.).

Source: RE2's syntax page, "Escape sequences".
"""

from __future__ import annotations

from kmesh.errors import Unsupported
from kmesh.regex.code_points import LAST
from kmesh.regex.syntax import RegexInvalid

__all__ = ["Cursor", "read_escaped_character"]

_CONTROL = {"a": 0x07, "f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_OCTAL = "01234567"
_HEXADECIMAL = "0123456789abcdefABCDEF"


class Cursor:
    """A place in a pattern, and the first thing before it that only RE2 itself can match."""

    __slots__ = ("at", "pattern", "unsupported")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.unsupported: Unsupported | None = None

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.pattern)

    @property
    def next(self) -> str:
        """The next character, "" at the end."""
        return self.pattern[self.at : self.at + 1]

    def starts_with(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self) -> str:
        """The next character, which is consumed; "" at the end."""
        taken = self.next
        self.at += len(taken)
        return taken

    def take_if(self, text: str) -> bool:
        """Consume `text` if it is next."""
        if not self.starts_with(text):
            return False
        self.at += len(text)
        return True

    def take_until(self, text: str) -> str | None:
        """What stands before `text`, both consumed; None, and nothing consumed, when `text` does not follow."""
        end = self.pattern.find(text, self.at)
        if end < 0:
            return None
        taken = self.pattern[self.at : end]
        self.at = end + len(text)
        return taken

    def invalid(self, reason: str) -> RegexInvalid:
        return RegexInvalid(f"{reason} before offset {self.at} of regex {self.pattern[:256]!r}")


def read_escaped_character(cursor: Cursor) -> int:
    """The code point of an escape, after its backslash. Raises: RegexInvalid when it is none."""
    character = cursor.take()
    if not character:
        raise cursor.invalid("backslash with nothing to escape")
    if character in _CONTROL:
        return _CONTROL[character]
    if character == "x":
        return _read_hexadecimal(cursor)
    if character in _OCTAL:
        return _read_octal(cursor, character)
    if character.isascii() and not character.isalnum():
        return ord(character)
    raise cursor.invalid(rf"unknown escape \{character}")


def _read_octal(cursor: Cursor, digits: str) -> int:
    r"""Up to three digits. \1 to \7 alone would be backreferences, which RE2 refuses."""
    if digits != "0" and (not cursor.next or cursor.next not in _OCTAL):
        raise cursor.invalid(rf"backreference \{digits}")
    while len(digits) < 3 and cursor.next and cursor.next in _OCTAL:
        digits += cursor.take()
    return int(digits, 8)


def _read_hexadecimal(cursor: Cursor) -> int:
    """Two digits, or any number of them in braces."""
    if cursor.take_if("{"):
        digits = cursor.take_until("}") or ""
    else:
        digits = cursor.take() + cursor.take()
        if len(digits) < 2:
            raise cursor.invalid(r"\x with one digit")
    if not digits or any(digit not in _HEXADECIMAL for digit in digits):
        raise cursor.invalid(r"\x without hexadecimal digits")
    if len(digits.lstrip("0")) > 6 or int(digits, 16) > LAST:
        raise cursor.invalid(r"\x beyond the last code point")
    return int(digits, 16)
