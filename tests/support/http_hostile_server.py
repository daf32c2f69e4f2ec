"""An upstream that answers badly, as the last segment of the path says. What no one asked for says `evil`."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count

__all__ = ["BAD_ANSWERS", "GOOD_ANSWERS", "hostile_server"]

_EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nh"
_CHUNKS = b"1\r\nh\r\n0\r\n\r\n"
_PAUSE_S = 0.01


def _head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


BAD_ANSWERS: Mapping[str, tuple[bytes, ...]] = {
    "twice": (_OK + _EVIL,),
    "twice-later": (_OK, _EVIL),
    "longer": (_head(b"Content-Length: 1") + b"h" + b"evil",),
    "longer-later": (_head(b"Content-Length: 1"), b"hevil"),
    "shorter": (_head(b"Content-Length: 100") + b"h", b"reset"),
    "two-lengths": (_head(b"Content-Length: 1", b"Content-Length: 5") + b"h" + _EVIL,),
    "equal-lengths": (_head(b"Content-Length: 1", b"Content-Length: 1") + b"h" + _EVIL,),
    "list-of-lengths": (_head(b"Content-Length: 1, 5") + b"h" + _EVIL,),
    "signed-length": (_head(b"Content-Length: +1") + b"h" + _EVIL,),
    "huge-length": (_head(b"Content-Length: 18446744073709551617") + b"h" + _EVIL, b"reset"),
    "length-and-chunked": (_head(b"Content-Length: 1", b"Transfer-Encoding: chunked") + _CHUNKS + _EVIL,),
    "chunked-badly": (_head(b"Transfer-Encoding: chunked") + b"zz\r\nh\r\n0\r\n\r\n" + _EVIL, b"reset"),
    "chunked-twice": (_head(b"Transfer-Encoding: chunked") + _CHUNKS + _EVIL,),
    "folded": (_head(b"Content-Length:\r\n 1") + b"h" + _EVIL,),
    "bare-lf": (b"HTTP/1.1 200 OK\nContent-Length: 1\n\nh" + _EVIL, b"reset"),
    "blank-name": (_head(b"Content-Length : 1") + b"h" + _EVIL, b"reset"),
    "null": (_head(b"X: a\0b", b"Content-Length: 1") + b"h" + _EVIL, b"reset"),
    "204-with-body": (_head(b"Content-Length: 44", status=b"204 No Content") + _EVIL,),
    "304-with-body": (_head(b"Content-Length: 44", status=b"304 Not Modified") + _EVIL,),
    "interim-with-body": (_head(b"Content-Length: 44", status=b"103 Early Hints") + _EVIL,),
    "interim-for-ever": (_head(status=b"100 Continue") * 50 + _OK,),
    "switching": (_head(b"Upgrade: evil", b"Connection: upgrade", status=b"101 Switching") + _EVIL, b"reset"),
    "status-000": (_head(b"Content-Length: 1", status=b"000 Low") + b"h" + _EVIL, b"reset"),
    "status-99": (_head(b"Content-Length: 1", status=b"99 Low") + b"h" + _EVIL, b"reset"),
    "version-2": (b"HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\nh" + _EVIL, b"reset"),
    "no-http": (b"SSH-2.0-OpenSSH_9.2\r\n", b"reset"),
    "noise": (bytes(range(256)) * 20, b"reset"),
    "long-head": (_head(b"X: " + b"a" * 200_000, b"Content-Length: 1") + b"h", b"reset"),
    "many-lines": (_head(*[b"X: a"] * 5000, b"Content-Length: 1") + b"h", b"reset"),
    "reset": (b"reset",),
    "half-a-head": (b"HTTP/1.1 200 OK\r\nContent-Le", b"reset"),
}
"""What is sent, part by part; `reset` ends the connection."""
GOOD_ANSWERS = {"plain": (_OK,), "chunked": (_head(b"Transfer-Encoding: chunked") + _CHUNKS,)}

_ANSWERS = {**BAD_ANSWERS, **GOOD_ANSWERS}


@contextmanager
def hostile_server(*, speaks_first: bool = False) -> Iterator[tuple[str, int]]:
    """Yields its address. `speaks_first`: every other connection begins with an answer that no one asked for."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=_accept, args=(listener, speaks_first), daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, speaks_first: bool) -> None:
    for number in count():
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        early = _EVIL if speaks_first and number % 2 else b""
        threading.Thread(target=_serve, args=(sock, early), daemon=True).start()


def _serve(sock: socket.socket, early: bytes) -> None:
    with contextlib.suppress(OSError), sock, sock.makefile("rb") as stream:
        sock.sendall(early)
        while target := _read_target(stream):
            for part in _ANSWERS[target.rpartition("/")[2]]:
                if part == b"reset":
                    time.sleep(_PAUSE_S)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                sock.sendall(part)
                time.sleep(_PAUSE_S)


def _read_target(stream) -> str:
    """Of the next request, whose head and body it reads; empty at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return ""
        head += line
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    stream.read(int(length[1]) if length else 0)
    return head.split(b" ")[1].decode("latin-1")
