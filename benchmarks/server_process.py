"""benchmarks.mesh_server as a process in a sandbox: started with a mesh, told to change, asked what it did when."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from benchmarks.mesh_server import Job
from tests.support.sandbox import Sandbox

__all__ = ["ServerProcess", "serve"]

_ANSWER_S = 60.0


class ServerProcess:
    def __init__(self, job: Job, stdin: IO[str], stdout: Iterable[str]) -> None:
        self.job = job
        self.turn = 0
        """Which of the probe's two endpoints is served."""
        self._stdin = stdin
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(stdout,), daemon=True).start()
        self._stdin.write(job.to_line())
        self._stdin.flush()
        self.port: int = self.wait_for("listening")["port"]

    def move_probe(self) -> None:
        self.turn = 1 - self.turn
        self._stdin.write("\n")
        self._stdin.flush()

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next event of that name; those before it are dropped. Raises queue.Empty when none comes."""
        while True:
            found = self._events.get(timeout=_ANSWER_S)
            if found["event"] == event:
                return found

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._events.put(json.loads(line))


@contextmanager
def serve(sandbox: Sandbox, job: Job) -> Iterator[ServerProcess]:
    argv = [sys.executable, "-m", "benchmarks.mesh_server"]
    process = sandbox.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    try:
        yield ServerProcess(job, process.stdin, process.stdout)
    finally:
        process.stdin.close()
        process.wait(30)
