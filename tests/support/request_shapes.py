"""Requests in many shapes, as the bytes that come: good ones, odd ones, hostile ones."""

from __future__ import annotations

__all__ = ["BODY_SHAPES", "HEAD_SHAPES", "SHAPES", "write_shape"]

_TLS = bytes.fromhex("1603010200010001fc0303") + bytes(64)


def write_shape(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = b"/",
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"Host: a",
    body: bytes = b"",
) -> bytes:
    all_lines = (*((host,) if host is not None else ()), *lines)
    return b"%s %s %s\r\n%s\r\n" % (method, target, version, b"".join(line + b"\r\n" for line in all_lines)) + body


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return write_shape(*lines, method=b"POST", body=body)


def _coding(value: bytes) -> bytes:
    return _post(b"Transfer-Encoding:" + value, body=b"0\r\n\r\n")


def _length(value: bytes) -> bytes:
    return _post(b"Content-Length:" + value, body=b"hello")


HEAD_SHAPES: dict[str, bytes] = {
    "plain": write_shape(),
    "head": write_shape(method=b"HEAD"),
    "trace": write_shape(method=b"TRACE"),
    "propfind": write_shape(method=b"PROPFIND"),
    "post without a length": _post(),
    "query": write_shape(target=b"/x?a=b&c=%20"),
    "odd bytes in the path": write_shape(target=b'/|{}<>"^`\\'),
    "percent": write_shape(target=b"/%zz%00"),
    "underscores": write_shape(b"x_a: 1", b"content_length: 5"),
    "tab in a value": write_shape(b"X-A: a\tb"),
    "high byte in a value": write_shape(b"X-A: a\xffb"),
    "empty value": write_shape(b"X-A:"),
    "blanks around a value": write_shape(b"X-A: \t b \t "),
    "empty lines before": b"\r\n\r\n" + write_shape(),
    "100 headers": write_shape(*(b"x-%d: 1" % number for number in range(99))),
    "59 KiB": write_shape(b"x: " + b"a" * 59 * 1024),
    "connection: close": write_shape(b"Connection: close"),
    "connection names a header": write_shape(b"Connection: x-a", b"X-A: 1"),
    "connection: close and a header": write_shape(b"Connection: close, x-a", b"X-A: 1"),
    "connection names the length": _post(b"Connection: content-length", b"Content-Length: 2", body=b"hi"),
    "connection names the coding": _post(
        b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "te: trailers": write_shape(b"Connection: te", b"TE: trailers"),
    "te: gzip": write_shape(b"TE: gzip"),
    "proxy-connection": write_shape(b"Proxy-Connection: keep-alive"),
    "keep-alive": write_shape(b"Connection: keep-alive", b"Keep-Alive: 5"),
    "upgrade to h2c": write_shape(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"),
    "upgrade without connection": write_shape(b"Upgrade: websocket"),
    "expect something": _post(b"Expect: foo", b"Content-Length: 2", body=b"hi"),
    "host is empty": write_shape(host=b"Host:"),
    "host has an at sign": write_shape(host=b"Host: u@b"),
    "host has a port": write_shape(host=b"Host: [::1]:80"),
    # refused by Envoy
    "no host": write_shape(host=None),
    "host has a space": write_shape(host=b"Host: a b"),
    "host has a slash": write_shape(host=b"Host: a/b"),
    "host has brackets": write_shape(host=b"Host: <a>"),
    "host is not ASCII": write_shape(host=b"Host: \xc3\xa9"),
    "connection names the host": write_shape(b"Connection: host"),
    "length and coding": _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "coding and length": _post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two equal lengths": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "two lengths": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    **{f"length {value!r}": _length(value) for value in (b" 5,5", b" +5", b" -5", b"", b" 0x5", b" 9" * 12, b" 5 5")},
    "length of 23 digits": _length(b" " + b"9" * 23),
    **{
        f"coding {value!r}": _coding(value)
        for value in (b" gzip", b" gzip, chunked", b" identity", b" xchunked", b" chunked,", b" chunked;q=1", b"")
    },
    "coding twice": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "coding behind a vertical tab": _coding(b" \x0bchunked"),
    "space before the colon": _post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "tab before the colon": write_shape(b"X-A\t: b"),
    "NUL in a value": write_shape(b"X-A: a\0b"),
    "NUL in a name": write_shape(b"X\0A: a"),
    "DEL in a value": write_shape(b"X-A: a\x7fb"),
    "control byte in a value": write_shape(b"X-A: a\x01b"),
    "no colon": write_shape(b"XA"),
    "no name": write_shape(b": b"),
    "space in a name": write_shape(b"X A: b"),
    "bracket in a name": write_shape(b"X(A): b"),
    "high byte in a name": write_shape(b"X\x80: b"),
    "HTTP/1.0": write_shape(version=b"HTTP/1.0"),
    "HTTP/1.0 kept alive": write_shape(b"Connection: keep-alive", version=b"HTTP/1.0"),
    "HTTP/1.2": write_shape(version=b"HTTP/1.2"),
    "HTTP/2.0": write_shape(version=b"HTTP/2.0"),
    "HTTP/1.10": write_shape(version=b"HTTP/1.10"),
    "HTTP/01.1": write_shape(version=b"HTTP/01.1"),
    "http/1.1": write_shape(version=b"http/1.1"),
    "TLS": _TLS,
    "SSH": b"SSH-2.0-x\r\n",
    "noise": b"\xff\xfe\xfd\r\n\r\n",
    "space first": b" " + write_shape(),
    "connect": write_shape(method=b"CONNECT", target=b"a:80", host=b"Host: a:80"),
    "connect to a path": write_shape(method=b"CONNECT"),
    "method in lower case": write_shape(method=b"get"),
    "unknown method": write_shape(method=b"FOO"),
    "method that is no token": write_shape(method=b"G(T"),
    "get *": write_shape(target=b"*"),
    "ftp": write_shape(target=b"ftp://b/x"),
    "relative target": write_shape(target=b"foo"),
    "fragment": write_shape(target=b"/a#b"),
    "space in the target": write_shape(target=b"/a b"),
    **{f"{byte:#x} in the target": write_shape(target=b"/%c" % byte) for byte in (0, 1, 0x7F, 0xFF)},
    "no target": b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
    "101 headers": write_shape(*(b"x-%d: 1" % number for number in range(100))),
    "61 KiB": write_shape(b"x: " + b"a" * 61 * 1024),
    "long target": write_shape(target=b"/" + b"a" * 61 * 1024),
    # taken by Envoy, which writes them anew; refused here, where the same bytes would go on
    "folded line": write_shape(b"X-A: b\r\n c"),
    "bare LF": write_shape(b"X-A: b").replace(b"\r\n", b"\n"),
    "one bare LF": write_shape(b"X-A: b\nX-B: c"),
    "bare CR": write_shape(b"X-A: b\rc"),
    "two hosts": write_shape(b"Host: b"),
    "space behind the version": write_shape(version=b"HTTP/1.1 "),
    "LF first": b"\n" + write_shape(),
    "two spaces": write_shape(target=b" /"),
    "tabs in the request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
}

_CHUNKED = b"Transfer-Encoding: chunked"

BODY_SHAPES: dict[str, bytes] = {
    "length": _post(b"Content-Length: 5", body=b"hello"),
    "length with zeros": _post(b"Content-Length: 005", body=b"hello"),
    "get with a body": write_shape(b"Content-Length: 2", body=b"hi"),
    "get with chunks": write_shape(_CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n"),
    "Chunked": _post(b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n"),
    "chunks": _post(_CHUNKED, body=b"3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    "many zeros": _post(_CHUNKED, body=b"00000000000000000003\r\nabc\r\n0\r\n\r\n"),
    "trailer": _post(_CHUNKED, body=b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
    # refused by Envoy
    **{
        f"chunk {body!r}": _post(_CHUNKED, body=body)
        for body in (
            *(b"zz\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b" 3\r\nabc\r\n0\r\n\r\n"),
            *(b"\r\nabc\r\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
            *(b"0\r\nX T: 1\r\n\r\n", b"3;a\rb\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n"),
        )
    },
    # taken by Envoy, refused here
    "LF behind a chunk": _post(_CHUNKED, body=b"3\r\nabc\n0\r\n\r\n"),
    "LF at the end": _post(_CHUNKED, body=b"3\r\nabc\r\n0\r\n\n"),
    "space behind a size": _post(_CHUNKED, body=b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk that is too long": _post(_CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n"),
    "length in a trailer": _post(_CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n"),
    "folded trailer": _post(_CHUNKED, body=b"0\r\nA: 5\r\n b\r\n\r\n"),
    "control byte in an extension": _post(_CHUNKED, body=b"3;\x01\r\nabc\r\n0\r\n\r\n"),
}

SHAPES = HEAD_SHAPES | BODY_SHAPES
