"""What of a head is meant for one hop only, and goes no further.

The relay and a client agree on how long their connection lasts; so do the relay and a server. Connection and what it
names, Keep-Alive, Proxy-Connection, TE but for trailers, and an upgrade to HTTP/2 end here, as they do in Envoy. A
head that has none of them goes on byte for byte. What frames the body always goes on: the body does, as it is; but
HTTP/1.0 knows no chunks, so an answer to that ends with its connection instead. A server is spoken to in HTTP/1.1.

Source: RFC 9110 section 7.6.1; source/common/http/conn_manager_utility.cc and utility.cc of Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kmesh.relay.head import AnswerHead, Headers, RequestHead
from kmesh.relay.head_lines import HeadLines

__all__ = ["HeadRewrite", "forward_answer", "forward_request", "is_switched"]

HeadRewrite = Callable[[bytes], bytes]

_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "te", "upgrade"))
_HOP_LINE = re.compile(rb"\r\n(?:connection|keep-alive|proxy-connection|te|upgrade):", re.I)
_FRAMING = frozenset(("content-length", "transfer-encoding", "host"))
_HTTP2 = frozenset((b"h2c", b"h2"))
_VERSION = b"HTTP/1.1"


def is_switched(head: RequestHead) -> bool:
    """Whether the client's wish for another protocol goes on."""
    return bool(head.upgrade) and not _HTTP2 & {part.strip() for part in head.upgrade.split(b",")}


def forward_request(head: RequestHead, rewrite: HeadRewrite | None) -> bytes:
    """What the server is sent; `head.raw` itself where nothing is changed."""
    out = head.raw
    if head.is_old or _HOP_LINE.search(out):
        lines = HeadLines(out)
        lines.first = lines.first[: -len(_VERSION)] + _VERSION
        if head.is_old:
            lines.set("host", head.values(b"host")[0])
        trailers = b"trailers" in b",".join(lines.values("te")).lower().replace(b" ", b"").split(b",")
        _end_hop(lines, head.headers)
        if trailers:
            lines.add("te", b"trailers")
        if is_switched(head):
            lines.add("connection", b"Upgrade")
            for value in head.values(b"upgrade"):
                lines.add("upgrade", value)
        out = bytes(lines)
    return rewrite(out) if rewrite else out


def forward_answer(
    head: AnswerHead, rewrite: HeadRewrite | None, *, closes: bool, is_to_old: bool = False
) -> bytes:
    """What the client is sent; `closes` says that its connection ends with this answer. `is_to_old`: to HTTP/1.0."""
    out = head.raw
    if is_to_old:
        out = _write_old(head, closes)
    elif closes or head.is_old or (_HOP_LINE.search(out) and head.status != 101):
        lines = HeadLines(out)
        lines.first = _VERSION + lines.first[len(_VERSION) :]
        _end_hop(lines, head.headers)
        if closes:
            lines.add("connection", b"close")
        out = bytes(lines)
    return rewrite(out) if rewrite and not head.is_interim else out


def _write_old(head: AnswerHead, closes: bool) -> bytes:
    """In HTTP/1.0, where a connection that goes on is one that says so."""
    lines = HeadLines(head.raw)
    lines.first = b"HTTP/1.0" + lines.first[len(_VERSION) :]
    if head.status >= 200:
        _end_hop(lines, head.headers)
        lines.remove(("transfer-encoding",))
        lines.add("connection", b"close" if closes else b"keep-alive")
    return bytes(lines)


def _end_hop(lines: HeadLines, headers: Headers) -> None:
    named = {
        token.strip().lower().decode("latin-1")
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    lines.remove((_HOP | named) - _FRAMING)
