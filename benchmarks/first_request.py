"""Asks for a page again and again until it gets one: when a pod first reached a service.

`python -m benchmarks.first_request` prints an empty line once it is up. For each line "ADDRESS PORT" on standard
input it prints an empty line as it begins to ask, and then one JSON object:

    {"at": 1234.567890, "attempts": 17}

`at` is CLOCK_MONOTONIC when the first answer of status 200 was there; it is late by one pause at most.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.name_server import Address
from tests.support.pods import inside
from tests.support.sandbox import Sandbox

__all__ = ["Asker", "run_asker"]

_PAUSE_S = 0.0005
_TIMEOUT_S = 30.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"


class Asker:
    """A process of a pod's own: it is up before the pod starts, so that Python's start is in no figure."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read()

    def begin(self, address: Address) -> None:
        """Returns as it begins to ask."""
        assert self._process.stdin
        self._process.stdin.write(f"{address[0]} {address[1]}\n")
        self._process.stdin.flush()
        self._read()

    def wait(self) -> float:
        """CLOCK_MONOTONIC of the first answer."""
        return float(json.loads(self._read())["at"])

    def move(self, cgroup: Path) -> None:
        """Sockets that it makes from now on belong there."""
        (cgroup / "cgroup.procs").write_text(str(self._process.pid))

    def _read(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the pod got no answer"
        return line


@contextmanager
def run_asker(sandbox: Sandbox, pod: str) -> Iterator[Asker]:
    """In the pod's namespace, and not enrolled."""
    command = [*inside(sandbox, pod), sys.executable, "-m", "benchmarks.first_request"]
    with sandbox.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Asker(process)
        finally:
            process.kill()


def main() -> None:
    print(flush=True)
    for line in sys.stdin:
        host, port = line.split()
        print(flush=True)
        print(json.dumps(_ask_until_answered((host, int(port)))), flush=True)


def _ask_until_answered(address: Address) -> dict[str, float]:
    attempts = 1
    deadline = time.monotonic() + _TIMEOUT_S
    while not _is_answered(address):
        assert time.monotonic() < deadline, f"{address} does not answer"
        attempts += 1
        time.sleep(_PAUSE_S)
    return {"at": time.monotonic(), "attempts": attempts}


def _is_answered(address: Address) -> bool:
    try:
        with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
            connection.sendall(_REQUEST)
            return connection.recv(4096).split(b" ", 2)[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    main()
