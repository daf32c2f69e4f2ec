"""Answers of the relay's own, in Envoy's words.

Envoy writes content-length first when there is a body, and last when there is none. An answer to a request that did
not come whole, or whose body is still to be read, closes the connection.

Source: source/common/http/utility.cc (sendLocalReply) and codes.cc of Envoy; held against the real Envoy in
tests/relay/test_replies.py.
"""

from __future__ import annotations

import time
from email.utils import formatdate

from kmesh.relay.head import BadRequest, Headers

__all__ = ["NO_HEALTHY_UPSTREAM", "REQUEST_TIMEOUT", "STREAM_TIMEOUT", "UPSTREAM_TIMEOUT", "describe_reset"]
__all__ += ["write_refusal", "write_reply"]

NO_HEALTHY_UPSTREAM = b"no healthy upstream"
UPSTREAM_TIMEOUT = b"upstream request timeout"
STREAM_TIMEOUT = b"stream timeout"
REQUEST_TIMEOUT = b"request header timeout"
_TEXT: Headers = ((b"content-type", b"text/plain"),)

_PHRASES = {
    **{100: b"Continue", 101: b"Switching Protocols", 102: b"Processing", 103: b"Early Hints", 200: b"OK"},
    **{201: b"Created", 202: b"Accepted", 203: b"Non-Authoritative Information", 204: b"No Content"},
    **{205: b"Reset Content", 206: b"Partial Content", 207: b"Multi-Status", 208: b"Already Reported"},
    **{226: b"IM Used", 300: b"Multiple Choices", 301: b"Moved Permanently", 302: b"Found", 303: b"See Other"},
    **{304: b"Not Modified", 305: b"Use Proxy", 307: b"Temporary Redirect", 308: b"Permanent Redirect"},
    **{400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required", 403: b"Forbidden", 404: b"Not Found"},
    **{405: b"Method Not Allowed", 406: b"Not Acceptable", 407: b"Proxy Authentication Required"},
    **{408: b"Request Timeout", 409: b"Conflict", 410: b"Gone", 411: b"Length Required"},
    **{412: b"Precondition Failed", 413: b"Payload Too Large", 414: b"URI Too Long", 415: b"Unsupported Media Type"},
    **{416: b"Range Not Satisfiable", 417: b"Expectation Failed", 421: b"Misdirected Request"},
    **{422: b"Unprocessable Entity", 423: b"Locked", 424: b"Failed Dependency", 426: b"Upgrade Required"},
    **{428: b"Precondition Required", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large"},
    **{500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable"},
    **{504: b"Gateway Timeout", 505: b"HTTP Version Not Supported", 506: b"Variant Also Negotiates"},
    **{507: b"Insufficient Storage", 508: b"Loop Detected", 510: b"Not Extended"},
    511: b"Network Authentication Required",
}


def describe_reset(why: bytes) -> bytes:
    """The body of the answer to a request whose upstream connection was lost before any head of an answer.

    `why` is Envoy's name: "remote connection failure", "connection termination", "protocol error", ...
    """
    return b"upstream connect error or disconnect/reset before headers. reset reason: " + why


def write_reply(
    status: int,
    body: bytes = b"",
    headers: Headers | None = None,
    *,
    closes: bool = False,
    method: bytes = b"GET",
    is_old: bool = False,
) -> bytes:
    """The whole answer to a request by `method`. None: a body that is there is plain text, and no more is said.

    `is_old`: to HTTP/1.0, where Envoy closes behind an answer without a body, so `closes` must say so.
    """
    if headers is None:
        headers = _TEXT if body else ()
    lines = [(b"content-length", b"%d" % len(body))] if body else []
    lines += [*headers, (b"date", _format_date(int(time.time()))), (b"server", b"envoy")]
    if closes:
        lines.append((b"connection", b"close"))
    elif is_old:
        lines.append((b"connection", b"keep-alive"))
    if not body:
        lines.append((b"content-length", b"0"))
    head = b"HTTP/1.%d %d %s\r\n" % (not is_old, status, _PHRASES.get(status, b"Unknown"))
    return head + b"".join(b"%s: %s\r\n" % line for line in lines) + b"\r\n" + (b"" if method == b"HEAD" else body)


def write_refusal(refusal: BadRequest) -> bytes:
    """The answer to what is no request: its body is the status in words."""
    body = _PHRASES[refusal.status] if refusal.has_text else b""
    return write_reply(refusal.status, body, closes=True, is_old=refusal.is_old)


_last_date = (0, b"")


def _format_date(now: int) -> bytes:
    global _last_date
    if _last_date[0] != now:
        _last_date = now, formatdate(now, usegmt=True).encode()
    return _last_date[1]
