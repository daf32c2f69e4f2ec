"""A message's head, read strictly: what a kernel's program, Envoy or a server could read in another way is refused.

Two readers must agree: patterns for the bytes of each line, and h11 for what the lines mean. No I/O.

Refused on top of what h11 refuses: line ends other than CR LF, folded lines, several Content-Length, Content-Length
beside Transfer-Encoding, methods that Envoy does not take. Status codes are Envoy's.

What says another version than 1.1 is HTTP/1.0, as Envoy has it: 426, or a request like another where that is
accepted. Of its Host and its connection's end it says less, so they are filled in.

Source: RFC 9112 sections 2 to 7; RFC 9110 sections 5 and 10.1.1; source/common/http/http1/codec_impl.cc of Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import h11

from kmesh.model.listener import Http10

__all__ = ["MAX_ANSWER_HEAD_BYTES", "MAX_HEADERS", "MAX_HEAD_BYTES", "AnswerHead", "BadAnswer", "BadRequest", "Body"]
__all__ += ["Headers", "RequestHead", "read_answer_head", "read_request_head"]

MAX_HEAD_BYTES = 60 * 1024
"""Envoy's max_request_headers_kb."""
MAX_ANSWER_HEAD_BYTES = 128 * 1024
MAX_HEADERS = 100
"""Envoy's max_headers_count."""

Headers = tuple[tuple[bytes, bytes], ...]
"""(name as it was written, value without surrounding white space), in the order of the wire."""


class Body(Enum):
    """How a body's end is found: RFC 9112 section 6.3."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"
    TUNNEL = "tunnel"
    """Behind a 101: bytes of another protocol, both ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    method: bytes
    target: bytes
    headers: Headers
    raw: bytes
    """From the method to the empty line."""
    length: int
    """What it takes of the stream: `raw`, and the empty lines before it."""
    body: Body
    body_length: int = 0
    """In bytes, for Body.LENGTH."""
    closes: bool = False
    """The client wants no answer after this one's."""
    expects_continue: bool = False
    upgrade: bytes = b""
    """The protocol asked for, in lower case; empty when none is."""
    is_old: bool = False
    """HTTP/1.0. Then `headers` have the Host that is meant, which `raw` may lack."""

    def values(self, name: bytes) -> list[bytes]:
        """Of the headers with this name, in lower case."""
        return _values(self.headers, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    status: int
    headers: Headers
    raw: bytes
    length: int
    body: Body
    body_length: int = 0
    closes: bool = False
    """The server takes no more requests on this connection."""
    is_old: bool = False
    """HTTP/1.0."""

    @property
    def is_interim(self) -> bool:
        """Another head follows; 101 is the last one."""
        return self.status < 200 and self.status != 101

    def values(self, name: bytes) -> list[bytes]:
        """Of the headers with this name, in lower case."""
        return _values(self.headers, name)


@dataclass(frozen=True, slots=True)
class BadRequest:
    """To be answered so, and the connection closed."""

    status: int
    why: str
    has_text: bool = True
    """Whether Envoy's answer has a body; the one for a missing Host has none."""
    is_old: bool = False
    """Answered in HTTP/1.0."""


@dataclass(frozen=True, slots=True)
class BadAnswer:
    """Must not be passed on."""

    why: str


# Bytes

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%s):[ \t]*([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_REQUEST_LINE = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_ORIGIN_OR_ABSOLUTE = re.compile(rb"/|https?://[^/?]", re.I)
_ANY_FORM = re.compile(rb"[/*]|[a-z][a-z0-9+.-]*://", re.I)
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)", re.I)
_AUTHORITY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%\[\]-]*")
_EMPTY_LINES = re.compile(rb"(?:\r\n){0,8}")
_BROKEN = re.compile(rb"(?<!\r)\n|\r[^\n]|\0")
"""Refused before the head is complete: a line end that is none hides where the head ends."""
_DIGITS = re.compile(rb"[0-9]{1,19}")
_END = b"\r\n\r\n"
_OLD = b"HTTP/1.0"
_TLS = re.compile(rb"\x16\x03[\x00-\x04]")
_HTTP2 = b"PRI * HTTP/2.0\r\n"
_METHODS = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE MSEARCH NOTIFY"
    b" OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK"
    b" UNLOCK UNSUBSCRIBE".split()
)
"""Those that Envoy's parser takes."""
_LONGEST_METHOD = 32
_ASKED = h11.Request(method="GET", target="/", headers=[("host", "x"), ("upgrade", "x"), ("connection", "upgrade")])
"""What answers are answers to, for h11: a request to which any head can come, 101 too."""
_TOO_LARGE = BadRequest(431, "the head is too large")


class _Refused(Exception):
    """Carries a BadRequest."""

    def __init__(self, status: int, why: str) -> None:
        self.refusal = BadRequest(status, why)


def read_request_head(received: bytes, http10: Http10 | None = None) -> RequestHead | BadRequest | None:
    """The head at the start of `received`; None when it is not complete yet, and nothing is wrong so far.

    `http10`: HTTP/1.0 is accepted, so.
    """
    found = _EMPTY_LINES.match(received)
    skipped = found.end() if found else 0
    try:
        end = _find_end(received, skipped)
        if end is None:
            return None
        return _read_request(received[skipped:end], end, http10)
    except _Refused as refused:
        return refused.refusal


def _find_end(received: bytes, start: int) -> int | None:
    """Behind the empty line. Raises: _Refused."""
    end = received.find(_END, start)
    begun = received[start : end + 4 if end >= 0 else MAX_HEAD_BYTES + 1]
    _recognise(begun)
    if _BROKEN.search(begun):
        raise _Refused(400, "a line that does not end in CR LF")
    if len(begun) > MAX_HEAD_BYTES:
        raise _Refused(_TOO_LARGE.status, _TOO_LARGE.why)
    return end + 4 if end >= 0 else None


def _recognise(begun: bytes) -> None:
    """What is no HTTP/1 is known by its first line, or before. Raises: _Refused."""
    if _TLS.match(begun):
        raise _Refused(400, "TLS, where plain HTTP/1.1 is spoken")
    if begun.startswith(_HTTP2):
        raise _Refused(400, "HTTP/2 without an upgrade, where HTTP/1.1 is spoken")
    line, end, _ = begun.partition(b"\r\n")
    if not end:
        method, space, _ = line[: _LONGEST_METHOD + 1].partition(b" ")
        if (space and method not in _METHODS) or len(method) > _LONGEST_METHOD or (method and not method.isalpha()):
            raise _Refused(400, "not a method")
        return
    parsed = _REQUEST_LINE.fullmatch(line)
    if not parsed:
        raise _Refused(400, "not a request line")
    if parsed[1] not in _METHODS:
        raise _Refused(400, "not a method")


def _read_request(raw: bytes, length: int, http10: Http10 | None) -> RequestHead | BadRequest:
    """In the order of Envoy, which knows the version of what it refuses by then. Raises: _Refused."""
    method, target, version = raw[: raw.index(b"\r\n")].split(b" ")
    headers = _read_lines(raw)
    if len(headers) > MAX_HEADERS:
        return _TOO_LARGE
    if method != b"CONNECT" and not _ANY_FORM.match(target):
        raise _Refused(400, "not a target")
    _read_length(_values(headers, b"content-length"))
    is_old = version != b"HTTP/1.1"
    try:
        head = _read_whole(raw, length, method, target, headers, http10 if is_old else None, is_old=is_old)
    except _Refused as refused:
        head = refused.refusal
    return replace(head, is_old=True) if is_old and http10 else head


def _read_whole(
    raw: bytes, length: int, method: bytes, target: bytes, headers: Headers, http10: Http10 | None, *, is_old: bool
) -> RequestHead | BadRequest:
    """Raises: _Refused."""
    body, body_length = _find_body(headers)
    is_connect = method == b"CONNECT" and _AUTHORITY.fullmatch(target)
    if not is_connect and not _is_target(method, target):
        raise _Refused(400, "not a target")
    if is_old and not http10:
        raise _Refused(426, "not HTTP/1.1")
    options = _tokens(headers, b"connection")
    meant = _fill_in_host(method, target, headers, options, http10) if http10 else headers
    hosts = _values(meant, b"host")
    if not hosts or (b"host" in options and not http10):
        return BadRequest(400, "no Host", has_text=False)
    if b"#" in target:
        return BadRequest(400, "a fragment", has_text=False)
    if is_connect:
        return BadRequest(404, "CONNECT", has_text=False)
    if not all(map(_AUTHORITY.fullmatch, hosts)):
        raise _Refused(400, "not a Host")
    _read_by_h11(raw, headers, is_old=is_old)
    return RequestHead(
        method=method,
        target=target,
        headers=meant,
        raw=raw,
        length=length,
        body=body or Body.NONE,
        body_length=body_length,
        closes=_closes(headers, options, is_old=is_old),
        expects_continue=b"100-continue" in _tokens(headers, b"expect"),
        upgrade=b",".join(_values(headers, b"upgrade")).lower() if b"upgrade" in options else b"",
    )


def _fill_in_host(
    method: bytes, target: bytes, headers: Headers, options: frozenset[bytes], http10: Http10
) -> Headers:
    """With the Host that HTTP/1.0 need not have: of its target, or the configured one; none where that is empty."""
    if _values(headers, b"host") and b"host" not in options:
        return headers
    absolute = _ABSOLUTE.match(target)
    host = absolute[1] if absolute else target if method == b"CONNECT" else http10.default_host.encode()
    others = tuple(header for header in headers if header[0].lower() != b"host")
    return (*others, (b"host", host)) if host else others


def _closes(headers: Headers, options: frozenset[bytes], *, is_old: bool) -> bool:
    """Behind its answer; for HTTP/1.0, as Envoy has it, keep-alive outweighs a close beside it."""
    asked = b"keep-alive" not in options if is_old else b"close" in options
    return asked or b"close" in _tokens(headers, b"proxy-connection")


def _is_target(method: bytes, target: bytes) -> bool:
    """Whether it is of a form that this method can have: RFC 9112 section 3.2."""
    if method == b"CONNECT":
        return False
    return _ORIGIN_OR_ABSOLUTE.match(target) is not None or (target == b"*" and method == b"OPTIONS")


def _read_lines(raw: bytes) -> Headers:
    """Raises: _Refused."""
    headers = []
    for line in raw[:-4].split(b"\r\n")[1:]:
        parsed = _LINE.fullmatch(line)
        if not parsed:
            raise _Refused(400, "not a header line")
        headers.append((parsed[1], parsed[2].rstrip(b" \t")))
    return tuple(headers)


def _find_body(headers: Headers) -> tuple[Body | None, int]:
    """By Transfer-Encoding or Content-Length, one of them, once; None where neither is there. Raises: _Refused."""
    codings, lengths = _values(headers, b"transfer-encoding"), _values(headers, b"content-length")
    if codings:
        if lengths:
            raise _Refused(400, "Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise _Refused(501, "a transfer coding other than chunked")
        return Body.CHUNKED, 0
    if not lengths:
        return None, 0
    length = _read_length(lengths)
    return (Body.LENGTH, length) if length else (Body.NONE, 0)


def _read_length(lengths: list[bytes]) -> int:
    """0 where there is none. Raises: _Refused."""
    if not lengths:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]) or int(lengths[0]) >> 63:
        raise _Refused(400, "not one Content-Length")
    return int(lengths[0])


def _read_by_h11(raw: bytes, headers: Headers, *, is_old: bool) -> None:
    """Raises: _Refused where h11 refuses, or reads something else."""
    if is_old:  # of any number; to h11, HTTP/1.0 is the one that needs no Host
        line, end, rest = raw.partition(b"\r\n")
        raw = line[: -len(_OLD)] + _OLD + end + rest
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        reader.receive_data(raw)
        event = reader.next_event()
    except h11.RemoteProtocolError as error:
        raise _Refused(400, str(error)) from None
    if not isinstance(event, h11.Request) or not _is_same(event.headers, headers):
        raise _Refused(400, "read in two ways")


def _is_same(theirs: Sequence[tuple[bytes, bytes]], ours: Headers) -> bool:
    """h11 writes the name of the transfer coding in lower case."""
    return len(theirs) == len(ours) and all(
        name == our_name.lower() and value.lower() == our_value.lower()
        for (name, value), (our_name, our_value) in zip(theirs, ours, strict=True)
    )


# Answers


def read_answer_head(received: bytes, method: bytes) -> AnswerHead | BadAnswer | None:
    """The head at the start of `received`, of an answer to a request by `method`; None: not complete yet."""
    end = received.find(_END)
    begun = received[: end + 4 if end >= 0 else MAX_ANSWER_HEAD_BYTES + 1]
    if _BROKEN.search(begun):
        return BadAnswer("a line that does not end in CR LF")
    if len(begun) > MAX_ANSWER_HEAD_BYTES:
        return BadAnswer("the head is too large")
    line, line_end, _ = begun.partition(b"\r\n")
    parsed = _STATUS_LINE.fullmatch(line)
    if line_end and not parsed:
        return BadAnswer("not a status line")
    if end < 0 or not parsed:
        return None
    try:
        return _read_answer(begun, int(parsed[2]), parsed[1] == b"0", method)
    except _Refused as refused:
        return BadAnswer(refused.refusal.why)


def _read_answer(raw: bytes, status: int, is_old: bool, method: bytes) -> AnswerHead:
    """Raises: _Refused."""
    headers = _read_lines(raw)
    if len(headers) > MAX_HEADERS:
        raise _Refused(502, "too many headers")
    body, length = _find_body(headers)
    _check_by_h11(raw, headers)
    if (status < 200 or status == 204) and body not in (None, Body.NONE):
        raise _Refused(502, "a body, where RFC 9112 section 6.1 allows none")
    if status == 101:
        body, length = Body.TUNNEL, 0
    elif method == b"HEAD" or status < 200 or status in (204, 304):
        body, length = Body.NONE, 0
    options = _tokens(headers, b"connection")
    body = body or Body.UNTIL_CLOSE
    keeps = b"keep-alive" in options if is_old else b"close" not in options
    return AnswerHead(
        status=status,
        headers=headers,
        raw=raw,
        length=len(raw),
        body=body,
        body_length=length,
        closes=not keeps or body in (Body.UNTIL_CLOSE, Body.TUNNEL),
        is_old=is_old,
    )


def _check_by_h11(raw: bytes, headers: Headers) -> None:
    """Raises: _Refused."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD_BYTES)
    reader.send(_ASKED)
    try:
        reader.receive_data(raw)
        event = reader.next_event()
    except h11.RemoteProtocolError as error:
        raise _Refused(502, str(error)) from None
    if not isinstance(event, h11.Response | h11.InformationalResponse) or not _is_same(event.headers, headers):
        raise _Refused(502, "read in two ways")


# Headers


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for written, value in headers if written.lower() == name]


def _tokens(headers: Headers, name: bytes) -> frozenset[bytes]:
    """The members of a list of tokens, in lower case."""
    joined = b",".join(_values(headers, name)).lower()
    return frozenset(token for part in joined.split(b",") if (token := part.strip(b" \t")))
