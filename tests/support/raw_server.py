"""A server that answers with the bytes a test gives it, and keeps the bytes it was sent.

The last segment of the target names a script: bytes to send, seconds to wait, or how to end the connection. It runs
when the head is read; "body" in it reads the request's body first.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["OK", "RawServer", "Script", "raw_server"]

Script = Sequence[bytes | float | str]
"""bytes: sent; float: waited; "body": read; "fin", "close", "rst": the end; "rest": all that comes is read."""

OK: Script = ("body", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class RawServer:
    address: tuple[str, int]
    scripts: Mapping[str, Script]
    requests: list[bytes] = field(default_factory=list)
    """Head and body of each, in the order in which they were read."""
    ends: list[str] = field(default_factory=list)
    """How each connection ended, as seen here: "fin" or "reset"."""


@contextmanager
def raw_server(scripts: Mapping[str, Script] | None = None) -> Iterator[RawServer]:
    """A target that names no script is answered OK."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        server = RawServer(listener.getsockname(), scripts or {})
        threading.Thread(target=_accept, args=(server, listener), daemon=True).start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)


def _accept(server: RawServer, listener: socket.socket) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(server, sock), daemon=True).start()


def _serve(server: RawServer, sock: socket.socket) -> None:
    end = "reset"
    with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rb") as stream:
        while head := _read_head(stream):
            number = len(server.requests)
            server.requests.append(head)
            target = head.split(b" ", 2)[1].decode("latin-1")
            script = server.scripts.get(target.partition("?")[0].rpartition("/")[2], OK)
            if not _run(server, number, sock, stream, script):
                return
        end = "fin"
    server.ends.append(end)


def _run(server: RawServer, number: int, sock: socket.socket, stream: BinaryIO, script: Script) -> bool:
    """Returns whether the connection goes on."""
    for step in script:
        match step:
            case bytes():
                sock.sendall(step)
            case float():
                time.sleep(step)
            case "body":
                server.requests[number] += _read_body(stream, server.requests[number])
            case "rest":
                server.requests[number] += stream.read()
            case "fin":
                sock.shutdown(socket.SHUT_WR)
            case "rst":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.close()
                stream.close()
                return False
            case _:
                return False
    return True


def _read_head(stream: BinaryIO) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return b""
        head += line
    return head


def _read_body(stream: BinaryIO, head: bytes) -> bytes:
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    if length:
        return stream.read(int(length[1]))
    body = b""
    if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I):
        while (size := int((line := stream.readline()).partition(b";")[0], 16)) > 0:
            body += line + stream.read(size + 2)
        body += line
        while (line := stream.readline()) != b"\r\n":
            body += line
        body += line
    return body
