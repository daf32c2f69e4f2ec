"""Where a redirect sends the client.

Source: envoy/config/route/v3/route_components.proto, RedirectAction; source/common/http/utility.cc, newUri.
"""

from __future__ import annotations

from collections.abc import Callable

from kmesh.compiler.semantics.request import Subject
from kmesh.model.edits import RegexRewrite
from kmesh.model.match import PathKind, PathMatch
from kmesh.model.route import Redirect

__all__ = ["ReplaceRegex", "locate", "locate_under_https", "rewrite_prefix"]

ReplaceRegex = Callable[[RegexRewrite, bytes], bytes]
"""What a rewrite by regular expression makes of a path: RE2's, which is not here."""

_DEFAULT_PORT = {b"http": b":80", b"https": b":443"}


def locate(
    redirect: Redirect, matched: PathMatch, subject: Subject, *, replace_regex: ReplaceRegex | None = None
) -> bytes:
    """The Location header for a request whose path `matched`. A regex_rewrite needs `replace_regex`."""
    scheme = redirect.scheme.encode() or subject.scheme
    port = b":%d" % redirect.port if redirect.port else b""
    host = redirect.host.encode() or _keep_host(subject, is_port_replaced=bool(port), scheme=scheme)
    path = _find_path(redirect, matched, subject, replace_regex)
    return scheme + b"://" + host + port + (path if path.startswith(b"/") else b"/" + path)


def locate_under_https(subject: Subject) -> bytes:
    """The Location header where a virtual host wants TLS."""
    return b"https://" + subject.authority + subject.path


def rewrite_prefix(path: bytes, matched: PathMatch, rewrite: bytes) -> bytes | None:
    """A path, without its query, that `matched`; None where it did only without its parameters, and stays."""
    if matched.kind is PathKind.REGEX:
        return rewrite
    text = matched.text.encode()
    start = path[: len(text)]
    is_there = start.lower() == text.lower() if matched.ignore_case else start == text
    return rewrite + path[len(text) :] if is_there else None


def _keep_host(subject: Subject, *, is_port_replaced: bool, scheme: bytes) -> bytes:
    """Without its port where that is replaced, or was the default of a scheme that changes."""
    host = subject.authority
    colon = host.rfind(b"]:") + 1 if host.startswith(b"[") else host.rfind(b":")
    if colon <= 0:
        return host
    is_default = scheme != subject.scheme and host[colon:] == _DEFAULT_PORT.get(subject.scheme)
    return host[:colon] if is_port_replaced or is_default else host


def _find_path(redirect: Redirect, matched: PathMatch, subject: Subject, replace_regex: ReplaceRegex | None) -> bytes:
    path, mark, query = subject.path.partition(b"?")
    if redirect.path:
        new = redirect.path.encode()
        return new if b"?" in new or redirect.strips_query else new + mark + query
    if redirect.prefix_rewrite:
        path = rewrite_prefix(path, matched, redirect.prefix_rewrite.encode()) or path
    elif redirect.regex_rewrite:
        assert replace_regex
        path = replace_regex(redirect.regex_rewrite, path) or path
    return path if redirect.strips_query else path + mark + query
