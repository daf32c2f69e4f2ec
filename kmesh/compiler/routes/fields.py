"""Ids of the fields of a request: what tests name, and what the reader of heads records values under.

Source: docs/decisions/0008-request-matching.md, "Reading the head".
"""

from __future__ import annotations

from kmesh.model.joined_headers import JOINED_HEADERS
from kmesh.records.constants import Field, FieldFlag
from kmesh.records.digest import name_id

__all__ = ["header_field", "parameter_field"]

_KNOWN = {
    ":method": Field.METHOD,
    ":path": Field.TARGET,
    ":authority": Field.AUTHORITY,
    "host": Field.AUTHORITY,
    "content-length": Field.CONTENT_LENGTH,
    "connection": Field.CONNECTION,
    "transfer-encoding": Field.TRANSFER_ENCODING,
}
_FLAGS = 0b11


def header_field(name: str) -> int:
    """`name` in lower case; a pseudo-header's with its colon."""
    if name in _KNOWN:
        return int(_KNOWN[name])
    return _mark(name_id("header", name), FieldFlag.JOINED if name in JOINED_HEADERS else FieldFlag(0))


def parameter_field(name: str) -> int:
    """Of the query; `name` as it is written there."""
    return _mark(name_id("parameter", name), FieldFlag.PARAMETER)


def _mark(digest: int, flag: FieldFlag) -> int:
    return digest & ~_FLAGS | flag
