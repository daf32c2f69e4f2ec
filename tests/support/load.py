"""Processes in the mesh that connect without a pause, and count what comes of it.

`python -m tests.support.load HOST PORT LIMIT` ends after LIMIT connections or when standard input does, and prints
{outcome: count}; outcomes as in tests.support.client.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from tests.support.client import connect_once
from tests.support.name_server import Address
from tests.support.sandbox import Sandbox

__all__ = ["Load"]

_UNLIMITED = 1 << 40


class Load:
    """Context manager; the load begins as it is entered."""

    def __init__(self, sandbox: Sandbox, address: Address, *, processes: int, limit: int = _UNLIMITED) -> None:
        """`limit` is of each process."""
        command = [sys.executable, "-m", "tests.support.load", address[0], str(address[1]), str(limit)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._processes = [sandbox.spawn(command, enrolled=True, **pipes) for _ in range(processes)]

    def __enter__(self) -> Self:
        for process in self._processes:
            assert process.stdout
            assert process.stdout.readline() == "connected\n"
        return self

    def is_running(self) -> bool:
        """Whether some process is below its limit."""
        return any(process.poll() is None for process in self._processes)

    def stop(self, timeout_s: float = 20) -> Counter[str]:
        """End it; what came of every connection."""
        total: Counter[str] = Counter()
        for process in self._processes:
            assert process.stdin
            if process.poll() is None:
                process.stdin.close()
        for process in self._processes:
            assert process.stdout
            total.update(json.loads(process.stdout.readline()))
            process.wait(timeout_s)
        return total

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def main() -> None:
    host, port, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    outcomes: Counter[str] = Counter([connect_once(host, port)[0]])
    print("connected", flush=True)
    while not is_over.is_set() and outcomes.total() < limit:
        outcomes[connect_once(host, port)[0]] += 1
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()
