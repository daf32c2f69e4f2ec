"""Heads read by one regular expression: what decision 8 accepts, in other words than the head automaton's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kmesh.compiler.semantics import Request
from kmesh.records.constants import LIMITS, Handover, Mark

__all__ = ["FRAMING", "NOT_READ", "PlainHead", "find_marks", "hands_over", "read_plain"]

_HEAD = re.compile(
    rb"(?P<method>GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE) (?P<target>/[!\"$-~]*) HTTP/1\.1\r\n"
    rb"(?P<lines>([!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
_MAX_BLANKS = 16
_MARKS = {
    Mark.DOUBLE_SLASH: re.compile(rb"//"),
    Mark.DOT: re.compile(rb"/\."),
    Mark.PERCENT: re.compile(rb"%"),
    Mark.BACKSLASH: re.compile(rb"\\"),
    Mark.PARAMETER: re.compile(rb";"),
    Mark.ESCAPABLE: re.compile(rb'["<>^`{|}]'),
}
FRAMING = frozenset(("host", "content-length", "connection"))
"""Headers that every reader records."""
_RELAYED = re.compile(rb"\r\n(transfer-encoding|expect|upgrade):", re.I)
NOT_READ = frozenset(
    (
        *(Handover.MALFORMED, Handover.INCOMPLETE, Handover.METHOD, Handover.TARGET, Handover.VERSION),
        *(Handover.HEAD_SIZE, Handover.FIELDS),
    )
)
"""Why a head that is none, or not a strict one, can be handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainHead:
    request: Request
    length: int
    has_many_blanks: frozenset[str]
    """Names, in lower case, of headers with a value behind which there are more blanks than a reader cuts."""


def hands_over(received: bytes) -> bool:
    """Whether a line of the head, or what may be one, has a name that ends the reading."""
    return bool(_RELAYED.search(received))


def read_plain(received: bytes) -> PlainHead | None:
    """The request at the start of `received`; None where there is none, or it does not end in time."""
    found = _HEAD.match(received)
    if not found or found.end() > LIMITS["HEAD_BYTES"]:
        return None
    lines = [line.partition(b":") for line in found["lines"].split(b"\r\n")[:-1]]
    return PlainHead(
        request=Request(
            method=found["method"],
            target=found["target"],
            headers=tuple((name, value.strip(b" \t")) for name, _, value in lines),
        ),
        length=found.end(),
        has_many_blanks=frozenset(
            name.lower().decode()
            for name, _, value in lines
            if value.strip(b" \t") and len(value) - len(value.rstrip(b" \t")) > _MAX_BLANKS
        ),
    )


def find_marks(path: bytes) -> Mark:
    """Of a path without its query."""
    return Mark(sum(mark for mark, pattern in _MARKS.items() if pattern.search(path)))
