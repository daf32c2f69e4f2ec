"""Processes in the mesh that connect without a pause, and count what comes of it.

`python -m tests.support.load HOST PORT ENOUGH` says "connected" after the first, "enough" after ENOUGH, goes on until
standard input ends, and prints {outcome: count}; outcomes as in tests.support.client.
"""

from __future__ import annotations

import json
import select
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

_STOP_S = 20.0


class Load:
    """Context manager; the load begins as it is entered."""

    def __init__(self, sandbox: Sandbox, address: Address, *, processes: int, enough: int = 1000) -> None:
        """`enough` is for each process."""
        command = [sys.executable, "-m", "tests.support.load", address[0], str(address[1]), str(enough)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._processes = [sandbox.spawn(command, enrolled=True, **pipes) for _ in range(processes)]

    def __enter__(self) -> Self:
        for process in self._processes:
            assert process.stdout
            assert process.stdout.readline() == "connected\n"
        return self

    def has_enough(self) -> bool:
        """Whether every process has made so many connections."""
        told, _, _ = select.select([process.stdout for process in self._processes], [], [], 0)
        return len(told) == len(self._processes)

    def stop(self) -> Counter[str]:
        """End it; what came of every connection."""
        total: Counter[str] = Counter()
        for process in self._processes:
            out, _ = process.communicate(timeout=_STOP_S)
            total.update(json.loads(out.splitlines()[-1]))
        return total

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def main() -> None:
    host, port, enough = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    outcomes: Counter[str] = Counter([connect_once(host, port)[0]])
    print("connected", flush=True)
    while not is_over.is_set():
        outcomes[connect_once(host, port)[0]] += 1
        if outcomes.total() == enough:
            print("enough", flush=True)
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()
