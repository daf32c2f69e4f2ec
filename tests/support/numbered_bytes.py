"""Bodies that show every byte lost, doubled or out of place: 8-byte numbers that count up, sent and checked slowly.

`python -m tests.support.numbered_bytes serve HOST PORT`: GET /length/N and /chunked/N answer N of these bytes as the
path says, POST with N of them is answered "right" or "wrong"; anything else is answered "small".
`... METHOD URL N SECONDS`: a client that takes that long for GET or POST, and prints "right" or what was wrong.
"""

from __future__ import annotations

import http.client
import struct
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__: list[str] = []

_PIECE = 64 * 1024


def pieces(count: int) -> Iterator[bytes]:
    for start in range(0, count, _PIECE):
        yield cut(start, min(_PIECE, count - start))


def cut(start: int, length: int) -> bytes:
    """Bytes `start` to `start + length` of the endless row."""
    first, last = start // 8, (start + length + 7) // 8
    row = struct.pack(f">{last - first}Q", *range(first, last))
    return row[start - 8 * first :][:length]


def check(read: Iterator[bytes], count: int) -> str:
    at = 0
    for piece in read:
        if piece != cut(at, len(piece)):
            return f"wrong between bytes {at} and {at + len(piece)}"
        at += len(piece)
    return "right" if at == count else f"{at} bytes instead of {count}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, kind, *count = self.path.split("/")
        if kind not in ("length", "chunked"):
            self._answer(b"small")
            return
        self.send_response(200)
        if kind == "length":
            self.send_header("Content-Length", count[0])
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces(int(count[0])):
            self.wfile.write(piece if kind == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
        if kind == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        count = int(self.headers["Content-Length"])
        body = (self.rfile.read(min(_PIECE, count - at)) for at in range(0, count, _PIECE))
        self._answer(check(body, count).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _paced(items: Iterator[bytes], count: int, seconds: float) -> Iterator[bytes]:
    started, done = time.monotonic(), 0
    for item in items:
        yield item
        done += len(item)
        time.sleep(max(0.0, started + seconds * done / count - time.monotonic()))


def _read(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read(_PIECE):
        yield piece


def _ask(method: str, url: str, count: int, seconds: float) -> str:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    if method == "POST":
        connection.request("POST", where.path, _paced(pieces(count), count, seconds), {"Content-Length": str(count)})
        answer = connection.getresponse()
        return f"{answer.status} {answer.read().decode()}".removeprefix("200 ")
    connection.request("GET", where.path)
    answer = connection.getresponse()
    if answer.status != 200:
        return f"{answer.status} {answer.read()!r}"
    found = check(_paced(_read(answer), count, seconds), count)
    try:
        connection.request("GET", "/small")  # the connection goes on
        return found if connection.getresponse().read() == b"small" else f"{found}, then another answer"
    except (OSError, http.client.HTTPException) as error:
        return f"{found}, then {error!r}"


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "serve":
        ThreadingHTTPServer((arguments[0], int(arguments[1])), _Handler).serve_forever()
    print(_ask(what, arguments[0], int(arguments[1]), float(arguments[2])))


if __name__ == "__main__":
    main()
