"""A client process that stays up and connects when told, so that a test does not start Python for each question.

`python -m tests.support.client` reads a JSON list [operation, arguments] a line and answers each with a JSON line.
Outcomes are the name that a name server said, or the name of the error, as in "ECONNREFUSED".
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.name_server import Address
from tests.support.sandbox import Sandbox

__all__ = ["Client", "Connection", "connect_once"]

_TIMEOUT_S = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT, so ports do not run out


@dataclass(frozen=True)
class Connection:
    outcome: str
    peer: str
    """What getpeername() shows, "" without a connection."""
    seconds: float
    """Until connect() returned."""


class Client:
    """Context manager. Enrolled unless told otherwise; `prefix` is a command that runs it ("nsenter ...")."""

    def __init__(self, sandbox: Sandbox, *, enrolled: bool = True, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, "-m", "tests.support.client"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = sandbox.spawn(command, enrolled=enrolled, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=_TIMEOUT_S)

    def connect(self, address: Address, count: int = 1) -> list[Connection]:
        """One after the other."""
        return [Connection(*row) for row in self._ask("connect", *address, count)]

    def answers(self, address: Address, count: int = 1) -> list[str]:
        """Outcomes in their order."""
        return [connection.outcome for connection in self.connect(address, count)]

    def tally(self, address: Address, count: int) -> Counter[str]:
        return Counter(self.answers(address, count))

    def datagrams(self, address: Address, count: int = 1, *, connected: bool) -> list[tuple[str, str]]:
        """(outcome, sender as shown) of each exchange over one socket, whose every datagram names the peer unless
        it is `connected`."""
        return [(outcome, sender) for outcome, sender in self._ask("datagrams", *address, count, connected)]

    def open(self, address: Address) -> int:
        """A connection that stays, by number."""
        return int(self._ask("open", *address))

    def echo(self, number: int, text: str) -> str:
        """What the connection's other end answers to `text`."""
        return str(self._ask("echo", number, text))

    def _ask(self, operation: str, *arguments: object) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([operation, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the client process ended with {self._process.wait(_TIMEOUT_S)}"
        return json.loads(line)


def connect_once(host: str, port: int) -> tuple[str, str, float]:
    """Outcome, peer, seconds; the connection is reset once its server has said its name."""
    with socket.socket(_family(host)) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        started = time.monotonic()
        code = sock.connect_ex((host, port))
        elapsed = time.monotonic() - started
        if code:
            return errno.errorcode[code], "", elapsed
        try:
            return _read_name(sock), _text(sock.getpeername()), elapsed
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, type(error).__name__), "", elapsed


def _connect(host: str, port: int, count: int) -> list[tuple[str, str, float]]:
    return [connect_once(host, port) for _ in range(count)]


def _datagrams(host: str, port: int, count: int, connected: bool) -> list[tuple[str, str]]:
    with socket.socket(_family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        try:
            if connected:
                sock.connect((host, port))
            return [_exchange(sock, None if connected else (host, port)) for _ in range(count)]
        except OSError as error:
            return [(errno.errorcode.get(error.errno or 0, type(error).__name__), "")]


def _exchange(sock: socket.socket, peer: Address | None) -> tuple[str, str]:
    if peer:
        sock.sendto(b"x", peer)
    else:
        sock.send(b"x")
    answer, sender = sock.recvfrom(64)
    return answer.decode().split()[0], _text(sender)


_open: list[socket.socket] = []


def _open_one(host: str, port: int) -> int:
    sock = socket.create_connection((host, port), _TIMEOUT_S)
    _read_name(sock)
    _open.append(sock)
    return len(_open) - 1


def _echo(number: int, text: str) -> str:
    _open[number].sendall(text.encode())
    return _open[number].recv(4096).decode()


def _read_name(sock: socket.socket) -> str:
    return sock.recv(64).decode().strip() or "EOF"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _text(address: tuple[Any, ...]) -> str:
    return f"{address[0]} {address[1]}"


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "connect": _connect,
    "datagrams": _datagrams,
    "open": _open_one,
    "echo": _echo,
}


def main() -> None:
    for line in sys.stdin:
        operation, arguments = json.loads(line)
        print(json.dumps(_OPERATIONS[operation](*arguments)), flush=True)


if __name__ == "__main__":
    main()
