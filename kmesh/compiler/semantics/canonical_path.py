"""A path in its canonical form: dot segments resolved, percent-encoding as sparse as can be.

Source: RFC 3986 sections 6.2.2.2 and 6.2.2.3, as the URL canonicaliser that Envoy took over from Chromium does it.
"""

from __future__ import annotations

import re

__all__ = ["canonicalize"]

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HERE = (b".", b"%2e")
_UP = (b"..", b".%2e", b"%2e.", b"%2e%2e")
_ESCAPED = frozenset(b'"<>^`{|}')


def canonicalize(path: bytes) -> bytes | None:
    """`path`, printable and without its query; None where it has no canonical form. A stray % stays."""
    if b"%00" in path:
        return None
    kept: list[bytes] = []
    segments = path.replace(b"\\", b"/").split(b"/")[1:]
    for segment in segments:
        if _is_dots(segment, _HERE):
            continue
        if not _is_dots(segment, _UP):
            kept.append(_reencode(segment))
        elif kept:
            kept.pop()
    if _is_dots(segments[-1], _HERE) or _is_dots(segments[-1], _UP):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _is_dots(segment: bytes, spellings: tuple[bytes, ...]) -> bool:
    """RFC 3986 section 5.2.4. Parameters do not hide dots that are not encoded: "..;x" goes up."""
    return segment.lower() in spellings or segment.partition(b";")[0] == spellings[0]


def _reencode(segment: bytes) -> bytes:
    decoded = _ESCAPE.sub(_decode, segment)
    return b"".join(b"%%%02X" % byte if byte in _ESCAPED else bytes((byte,)) for byte in decoded)


def _decode(found: re.Match[bytes]) -> bytes:
    byte = int(found[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else found[0]
