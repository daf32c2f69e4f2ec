"""From a request's head to what conditions look at: its target taken apart, its headers joined, both normalised.

Source: RFC 9112 section 3.2; RFC 3986 section 6.2.2; source/common/http/path_utility.cc of Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kmesh.compiler.semantics.authority import normalize_authority
from kmesh.compiler.semantics.canonical_path import canonicalize
from kmesh.compiler.semantics.request import Reply, Request, Subject
from kmesh.model.joined_headers import JOINED_HEADERS
from kmesh.model.listener import EscapedSlashes, Normalization

__all__ = ["build_subject"]

_PRINTABLE = re.compile(rb"[!-~]+")
_AUTHORITY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%\[\]-]*")
_ABSOLUTE = re.compile(
    rb"(?P<scheme>https?)://([^/?@]*@)?"
    rb"(?P<authority>([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?)(?P<path>[/?].*)?",
    re.IGNORECASE,
)
_ESCAPED_SLASH = re.compile(rb"%(2f|5c)", re.IGNORECASE)
_SLASHES = re.compile(rb"/{2,}")
_BAD_REQUEST = Reply(status=400)
_MALFORMED = Reply(status=400, body=b"Bad Request")
"""Envoy's codec says so, where it cannot read the head; what looks at it after that says nothing more."""
_NOT_FOUND = Reply(status=404)
_MAX_PORT = 0xFFFF


def build_subject(request: Request, options: Normalization, port: int) -> Subject | Reply:
    """Or the reply, where normalisation is already the answer. No route is for CONNECT, so that is none for it."""
    if request.method == b"CONNECT":
        return _NOT_FOUND
    hosts = [value for name, value in request.headers if name.lower() == b"host"]
    if len(hosts) > 1 or not _PRINTABLE.fullmatch(request.target):
        return _MALFORMED  # RFC 9112 section 3.2: one Host and no other; Envoy joins several by commas
    if not hosts or b"#" in request.target:
        return _BAD_REQUEST
    if request.target == b"*":
        return _NOT_FOUND if request.method == b"OPTIONS" else _MALFORMED
    scheme, authority, path = b"http", hosts[0], request.target
    if not path.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(path)
        if not absolute or int(absolute["port"] or 0) > _MAX_PORT:
            return _MALFORMED
        scheme, authority, path = absolute["scheme"].lower(), absolute["authority"], absolute["path"] or b"/"
    if not _AUTHORITY.fullmatch(authority):
        return _MALFORMED
    if not path.startswith(b"/"):
        return _NOT_FOUND
    normalized = _normalize(path, options)
    if isinstance(normalized, Reply):
        return normalized
    return Subject(
        method=request.method,
        scheme=scheme,
        authority=normalize_authority(authority, options, port),
        path=normalized,
        headers=_collect(request.headers),
    )


def _collect(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, tuple[bytes, ...]]:
    out: dict[str, tuple[bytes, ...]] = {}
    for name, value in headers:
        key = name.lower().decode("latin-1")
        if key != "host":
            out[key] = (*out.get(key, ()), value)
    for key in JOINED_HEADERS & out.keys():
        out[key] = (b",".join(value for value in out[key] if value),)
    return out


def _normalize(target: bytes, options: Normalization) -> bytes | Reply:
    """The path as it is matched, with its query."""
    path, mark, query = target.partition(b"?")
    unescaped = path
    if options.escaped_slashes is not EscapedSlashes.KEEP_UNCHANGED:
        unescaped = _ESCAPED_SLASH.sub(lambda found: b"/" if found[1].lower() == b"2f" else b"\\", path)
    if unescaped != path and options.escaped_slashes is EscapedSlashes.REJECT_REQUEST:
        return _BAD_REQUEST
    new = unescaped
    if options.normalizes_path:
        canonical = canonicalize(unescaped)
        if canonical is None:
            return _BAD_REQUEST
        new = canonical
    if options.merges_slashes:
        new = _SLASHES.sub(b"/", new)
    if unescaped != path and options.escaped_slashes is EscapedSlashes.UNESCAPE_AND_REDIRECT:
        return Reply(status=307, location=new + mark + query)
    return new + mark + query
