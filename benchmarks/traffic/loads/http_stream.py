"""One large body over HTTP, down or up.

`python -m benchmarks.traffic.loads.http_stream HOST PORT down PATH BYTES` or `... up PATH BYTES`. An eighth is moved
first, over a connection of its own, as warm-up. An upload ends with its answer, which comes after the last byte.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

from benchmarks.traffic.cpu import Cpu
from benchmarks.traffic.measured import Measured

__all__: list[str] = []

_CHUNK = 1 << 18
_TIMEOUT_S = 20.0
_OK = b" 200 "


def main() -> None:
    host, port, direction, path, size = sys.argv[1:]
    move = {"down": _download, "up": _upload}[direction]
    _try(move, (host, int(port)), path, int(size) // 8)
    before, started = Cpu.now(), time.monotonic()
    moved, status = _try(move, (host, int(port)), path, int(size))
    measured = Measured(
        seconds=time.monotonic() - started,
        requests=1,
        bytes=moved,
        errors=int(moved != int(size)),
        non_2xx=int(_OK not in status),
        latency_us=None,
        cpu=Cpu.now() - before,
    )
    print(measured.to_line())


def _try(move: Callable[..., tuple[int, bytes]], address: tuple[str, int], path: str, size: int) -> tuple[int, bytes]:
    """(bytes of body that were moved, status line); nothing was moved when the connection broke."""
    try:
        with socket.create_connection(address, _TIMEOUT_S) as sock:
            return move(sock, path, size)
    except OSError:
        return 0, b""


def _download(sock: socket.socket, path: str, size: int) -> tuple[int, bytes]:
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nRange: bytes=0-{size - 1}\r\nConnection: close\r\n\r\n"
    sock.sendall(head.encode())
    answer, rest = _read_head(sock)
    moved, buffer = len(rest), bytearray(_CHUNK)
    while moved < size and (count := sock.recv_into(buffer)):
        moved += count
    return moved, answer.replace(b" 206 ", _OK)


def _upload(sock: socket.socket, path: str, size: int) -> tuple[int, bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    sock.sendall(head.encode())
    chunk, left = memoryview(bytes(_CHUNK)), size
    while left:
        sock.sendall(chunk[: min(left, _CHUNK)])
        left -= min(left, _CHUNK)
    return size, _read_head(sock)[0]


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """(status line, what came of the body)."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = sock.recv(4096)
        if not more:
            raise ConnectionError("ended in the head")
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0] + b" ", rest


if __name__ == "__main__":
    main()
