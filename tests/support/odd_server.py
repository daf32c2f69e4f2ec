"""A server that answers in all the ways HTTP/1.1 has, as the last segment of the path says."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["odd_server"]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ODD_REST = {
    b"extension": b"1;a=b\r\n!\r\n0\r\n\r\n",
    b"trailer": b"0\r\nx: y\r\n\r\n",
    b"excess": b"0\r\n\r\nevil",
}
"""What comes behind a first chunk."""


@contextmanager
def odd_server(name: str) -> Iterator[tuple[str, int]]:
    """Yields its address. An answer's body is the name, or the name and the request's body."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=_accept, args=(listener, name.encode()), daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, name: bytes) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(sock, name), daemon=True).start()


def _serve(sock: socket.socket, name: bytes) -> None:
    with contextlib.suppress(OSError), sock, sock.makefile("rb") as stream:
        while head := _read_head(stream):
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
            body = stream.read(int(length[1])) if length and b"/early " not in head else b""
            if b"transfer-encoding: chunked" in head.lower():
                while size := int(stream.readline(), 16):
                    body += stream.read(size + 2)[:-2]
                stream.readline()
            if not _answer(sock, head, name + body):
                return


def _read_head(stream) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return b""
        head += line
    return head


def _answer(sock: socket.socket, head: bytes, body: bytes) -> bool:
    """Returns whether the connection goes on."""
    method, target = head.split(b" ", 2)[:2]
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    match target.rsplit(b"/", 1)[1]:
        case b"chunked":
            sock.sendall(CHUNKED)
            if method != b"HEAD":
                sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        case b"bytes":
            sock.sendall(CHUNKED)
            for byte in b"00%X\r\n%s\r\n1\r\n!\r\n000\r\n\r\n" % (len(body), body):
                sock.sendall(bytes([byte]))
                time.sleep(0.0005)
        case b"chunks":
            whole = b"".join(b"40\r\n%064d\r\n" % number for number in range(400))
            sock.sendall(CHUNKED + whole + b"0\r\n\r\n")
        case b"tiny":
            sock.sendall(CHUNKED + b"1\r\n!\r\n" * 20000 + b"0\r\n\r\n")
        case b"events":
            sock.sendall(CHUNKED)
            for _ in range(3):
                sock.sendall(b"2\r\n!\n\r\n")
                time.sleep(0.1)
            sock.sendall(b"0\r\n\r\n")
        case b"long":
            sock.sendall(CHUNKED)
            for _ in range(300):
                sock.sendall(b"2711\r\n" + bytes(10001) + b"\r\n")
            sock.sendall(b"0\r\n\r\n")
        case b"extension" | b"trailer" | b"excess" as odd:
            sock.sendall(CHUNKED + b"1\r\n!\r\n")
            time.sleep(0.01)
            sock.sendall(ODD_REST[odd])
        case b"ending":
            sock.sendall(plain.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
            return False
        case b"ending-chunks":
            sock.sendall(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"))
            sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return False
        case b"early":
            sock.sendall(plain + body)
            sock.recv(1)  # of the body, which never comes
            return False
        case b"head":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
        case b"close":
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            return False
        case b"last":
            sock.sendall(plain + body)
            return False
        case b"204":
            sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        case b"304":
            sock.sendall(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
        case b"interim":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.01)
            sock.sendall(plain + body)
        case b"split":
            for part in (plain[:20], plain[20:], body):
                sock.sendall(part)
                time.sleep(0.005)
        case b"parts":
            sock.sendall(plain)
            for at in range(len(body)):
                sock.sendall(body[at : at + 1])
        case b"die":
            return False
        case b"extra":
            sock.sendall(plain + body + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        case b"late":
            sock.sendall(plain + body)
            time.sleep(0.02)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        case b"later":
            sock.sendall(plain + body)
            time.sleep(0.4)
            sock.sendall(b"evil")
        case b"staying":
            sock.sendall(plain.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n") + body)
        case b"slow":
            time.sleep(0.1)
            sock.sendall(plain + body)
        case b"big":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3000000))
        case _:
            sock.sendall(plain + (b"" if method == b"HEAD" else body))
    return True
