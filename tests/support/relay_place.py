"""A runtime directory for relays of one test, and real processes in it; all are gone at the end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from kmesh.relay.control import RelayUnreachable, fetch_status
from kmesh.relay.record import RelayRecord, end_relay, read_record
from tests.support.envoy import wait_until
from tests.support.sandbox import REPO

__all__ = ["RelayPlace", "echo"]


class RelayPlace:
    """Context manager. Its relays echo (tests.support.echo_relay)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runtime_dir, self.log = folder, folder / "relay", folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end_relay(self.runtime_dir)
        for process in self._processes:
            process.kill()
            process.wait()

    def spawn(self, die_at: str = "") -> subprocess.Popen[bytes]:
        """Without waiting for it. `die_at` as KMESH_DIE_AT."""
        options = ["--maps-dir", self.folder, "--configuration", self.folder / "c", "--runtime-dir", self.runtime_dir]
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.echo_relay", *map(str, options)],
                cwd=REPO,
                env={**os.environ, "KMESH_DIE_AT": die_at},
                stderr=log,
            )
        self._processes.append(process)
        return process

    def start(self) -> dict[str, Any]:
        """Its status, once it serves."""
        process = self.spawn()
        wait_until(lambda: process.poll() is not None or self.serving_pid() == process.pid, 10, "the relay to serve")
        assert process.poll() is None, self.log.read_text()
        return self.status()

    def kill(self, pid: int) -> None:
        """By SIGKILL, one that `spawn` or `start` started."""
        process = next(process for process in self._processes if process.pid == pid)
        process.kill()
        process.wait(10)

    def status(self) -> dict[str, Any]:
        return asyncio.run(fetch_status(self.runtime_dir, 5))

    def serving_pid(self) -> int:
        try:
            return int(asyncio.run(fetch_status(self.runtime_dir, 0.2))["pid"])
        except RelayUnreachable:
            return 0

    @property
    def record(self) -> RelayRecord:
        record = read_record(self.runtime_dir)
        assert record
        return record


def echo(sock: socket.socket, text: str) -> int:
    """Say it; the process id of who answered."""
    sock.sendall(text.encode())
    answer = b""
    while not answer.endswith(b"\n"):
        piece = sock.recv(65536)
        assert piece, f"closed after {answer!r}"
        answer += piece
    said, _, pid = answer.decode().rpartition(" ")
    assert said == text
    return int(pid)
