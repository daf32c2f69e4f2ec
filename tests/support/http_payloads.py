"""Bytes that a hostile client sends on one connection, to be read in two ways by two servers."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PLAIN", "SMUGGLING"]

_EVIL = b"GET /a/evil HTTP/1.1\r\nHost: x\r\n\r\n"
_CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


def _post(lines: bytes, body: bytes, target: bytes = b"/a/x") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s" % (target, lines, body)


def _chunked(line: bytes, body: bytes = _CHUNKS + _EVIL) -> bytes:
    return _post(line + b"\r\n", body)


def _length(line: bytes, body: bytes = b"abcde" + _EVIL) -> bytes:
    return _post(line + b"\r\n", body)


SMUGGLING: Mapping[str, bytes] = {
    "length before chunked": _post(
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(b"0\r\n\r\n" + _EVIL), b"0\r\n\r\n" + _EVIL
    ),
    "chunked before length": _post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + _EVIL),
    "length that ends in a chunk": _post(
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(_EVIL), _EVIL)
    ),
    "two lengths": _post(b"Content-Length: 5\r\nContent-Length: %d\r\n" % (5 + len(_EVIL)), b"abcde" + _EVIL),
    "two lengths, the second short": _post(b"Content-Length: 5\r\nContent-Length: 0\r\n", b"abcde" + _EVIL),
    "two equal lengths": _post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"abcde" + _EVIL),
    "a list of lengths": _length(b"Content-Length: 5,5"),
    "a list of two lengths": _length(b"Content-Length: 5, 0"),
    "a length with a sign": _length(b"Content-Length: +5"),
    "a length below nothing": _length(b"Content-Length: -5"),
    "a length in two parts": _length(b"Content-Length: 5 5"),
    "a length in hexadecimal": _length(b"Content-Length: 0x5"),
    "a length with an exponent": _length(b"Content-Length: 5e0"),
    "no length": _length(b"Content-Length:"),
    "a length beyond 64 bits": _length(b"Content-Length: 18446744073709551621"),
    "a length beyond 32 bits": _length(b"Content-Length: 4294967301"),
    "a length behind a blank": _length(b"Content-Length : 5"),
    "a length behind a tab": _length(b"Content-Length\t: 5"),
    "a length behind a control byte": _length(b"Content-Length: \x0b5"),
    "a length in a folded line": _length(b"Content-Length:\r\n 5"),
    "a folded length": _length(b"X: y\r\n Content-Length: 5"),
    "a length in a name of 8 bits": _length(b"Content-Length\xa0: 5"),
    "a length with an underscore": _length(b"Content_Length: 5"),
    "chunked behind a blank": _chunked(b"Transfer-Encoding : chunked"),
    "chunked behind a tab": _chunked(b"Transfer-Encoding:\tchunked"),
    "chunked behind a control byte": _chunked(b"Transfer-Encoding: \x0bchunked"),
    "chunked in another case": _chunked(b"Transfer-Encoding: CHUNKED"),
    "xchunked": _chunked(b"Transfer-Encoding: xchunked"),
    "chunked in quotes": _chunked(b'Transfer-Encoding: "chunked"'),
    "chunked and a comma": _chunked(b"Transfer-Encoding: chunked,"),
    "chunked twice": _chunked(b"Transfer-Encoding: chunked, chunked"),
    "chunked on two lines": _chunked(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "identity": _chunked(b"Transfer-Encoding: identity"),
    "chunked, then identity": _chunked(b"Transfer-Encoding: chunked, identity"),
    "gzip": _chunked(b"Transfer-Encoding: gzip"),
    "chunked in a folded line": _chunked(b"Transfer-Encoding:\r\n chunked"),
    "no coding": _chunked(b"Transfer-Encoding:"),
    "a coding on HTTP/1.0": b"POST /a/x HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + _CHUNKS + _EVIL,
    "a chunk as long as nothing is": _chunked(b"Transfer-Encoding: chunked", b"fffffffffffffffff\r\nabc\r\n" + _EVIL),
    "a chunk with 0x": _chunked(b"Transfer-Encoding: chunked", b"0x3\r\nabc\r\n0\r\n\r\n" + _EVIL),
    "a chunk with a sign": _chunked(b"Transfer-Encoding: chunked", b"+3\r\nabc\r\n0\r\n\r\n" + _EVIL),
    "a chunk below nothing": _chunked(b"Transfer-Encoding: chunked", b"-3\r\nabc\r\n0\r\n\r\n" + _EVIL),
    "a chunk with a blank": _chunked(b"Transfer-Encoding: chunked", b"3 \r\nabc\r\n0\r\n\r\n" + _EVIL),
    "a chunk that ends in LF": _chunked(b"Transfer-Encoding: chunked", b"3\nabc\n0\n\n" + _EVIL),
    "a chunk that ends late": _chunked(b"Transfer-Encoding: chunked", b"3\r\nabcd\r\n0\r\n\r\n" + _EVIL),
    "a chunk's extension with LF": _chunked(b"Transfer-Encoding: chunked", b"3;a\nabc\r\n0\r\n\r\n" + _EVIL),
    "a trailer with a length": _chunked(
        b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\nContent-Length: 99\r\n\r\n" + _EVIL
    ),
    "bare LFs": b"GET /a/x HTTP/1.1\nHost: x\n\n" + _EVIL,
    "one bare LF": b"GET /a/x HTTP/1.1\r\nHost: x\nX: GET /a/evil HTTP/1.1\r\n\r\n" + _EVIL,
    "a bare CR": b"GET /a/x HTTP/1.1\r\nHost: x\rX: y\r\n\r\n" + _EVIL,
    "CR CR LF": b"GET /a/x HTTP/1.1\r\nHost: x\r\r\n\r\r\n" + _EVIL,
    "LF CR": b"GET /a/x HTTP/1.1\n\rHost: x\n\r\n\r" + _EVIL,
    "a null": b"GET /a/x HTTP/1.1\r\nHost: x\r\nX: y\0z\r\n\r\n" + _EVIL,
    "two hosts": b"GET /a/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + _EVIL,
    "no host": b"GET /a/x HTTP/1.1\r\n\r\n" + _EVIL,
    "a host with a path": b"GET /a/x HTTP/1.1\r\nHost: x/a\r\n\r\n" + _EVIL,
    "a host with credentials": b"GET /a/x HTTP/1.1\r\nHost: y@x\r\n\r\n",
    "a target with a host": b"GET http://y/a/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a fragment": b"GET /a/x#/../evil HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a blank": b"GET /a/x /b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a control byte": b"GET /a/x\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target of 8 bits": b"GET /a/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "blanks before the version": b"GET /a/x   HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab for a blank": b"GET\t/a/x\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /a/x\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /a/x\r\n",
    "HTTP/1.2": b"GET /a/x HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /a/x HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.1 in small letters": b"GET /a/x http/1.1\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
    "a method in small letters": b"get /a/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method with a control byte": b"G\x01ET /a/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT y:80 HTTP/1.1\r\nHost: y:80\r\n\r\n" + _EVIL,
    "CONNECT to a path": b"CONNECT /a/x HTTP/1.1\r\nHost: x\r\n\r\n" + _EVIL,
    "upgrade to HTTP/2": (
        b"GET /a/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + _EVIL
    ),
    "upgrade to a tunnel": (
        b"GET /a/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 777\r\n\r\n" + _EVIL.replace(b"/a/", b"/none/")
    ),
    "a line without a colon": b"GET /a/x HTTP/1.1\r\nHost: x\r\nevil\r\n\r\n" + _EVIL,
    "a line without a name": b"GET /a/x HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n" + _EVIL,
    "a blank before the first name": b"GET /a/x HTTP/1.1\r\n Host: x\r\n\r\n" + _EVIL,
    "a connection that names the host": b"GET /a/x HTTP/1.1\r\nHost: x\r\nConnection: close, host\r\n\r\n",
    "a connection that names the length": _post(b"Connection: Content-Length\r\nContent-Length: 5\r\n", b"abcde"),
    "an odd expectation": _post(b"Expect: 100-continue, evil\r\nContent-Length: 5\r\n", b"abcde" + _EVIL),
}
"""What a strict reader refuses, or what is for a proxy to change. None of it is the kernel's but PLAIN."""
PLAIN = frozenset(("a host with credentials",))
"""Odd, but read in one way only."""
