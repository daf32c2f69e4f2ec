r"""The classes that RE2 knows by name: Perl's \d \s \w and POSIX's [:alpha:] and so on. All are ASCII only.

Source: RE2's syntax page, "Perl character classes" and "ASCII character classes".
"""

from __future__ import annotations

from kmesh.regex.code_points import Ranges, make_ranges

__all__ = ["PERL", "POSIX", "WORD_BYTES"]


def _ascii(*spans: str) -> Ranges:
    """Each span is one character, or the first and last of a range."""
    return make_ranges((ord(span[0]), ord(span[-1])) for span in spans)


_WORD = _ascii("09", "AZ", "az", "_")

PERL: dict[str, Ranges] = {"d": _ascii("09"), "s": _ascii("\t\n", "\f\r", " "), "w": _WORD}

POSIX: dict[str, Ranges] = {
    "alnum": _ascii("09", "AZ", "az"),
    "alpha": _ascii("AZ", "az"),
    "ascii": _ascii("\x00\x7f"),
    "blank": _ascii("\t", " "),
    "cntrl": _ascii("\x00\x1f", "\x7f"),
    "digit": _ascii("09"),
    "graph": _ascii("!~"),
    "lower": _ascii("az"),
    "print": _ascii(" ~"),
    "punct": _ascii("!/", ":@", "[`", "{~"),
    "space": _ascii("\t\r", " "),
    "upper": _ascii("AZ"),
    "word": _WORD,
    "xdigit": _ascii("09", "AF", "af"),
}

WORD_BYTES = frozenset(byte for first, last in _WORD for byte in range(first, last + 1))
r"""What \b and \B take for a word."""
