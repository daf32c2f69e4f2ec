"""Times connect() in small batches, alternating between kinds of connects, and prints medians per batch.

`python -m benchmarks.connector < JOB`: a Job as JSON. One process does everything, so that kinds differ in nothing
but the cgroup its sockets are made in and the address they connect to:

- It moves itself from cgroup to cgroup between batches; a socket belongs to the cgroup it was made in.
- All backends are one listening socket of its own on every loopback address, drained after each batch.
- connect() alone is timed. Sockets are closed with a reset (SO_LINGER 0), so none lingers and no port runs out.
- Addresses are drawn anew for each batch, from the same few hundred each time.
- The first connects of a batch are not counted: they find cold what the drain and the move displaced.

Prints one JSON object for each round: {kind: median in ns}.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Job", "Kind"]

Address = tuple[str, int]

_RESET = struct.pack("ii", 1, 0)
_BACKLOG = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One rung of the ladder."""

    name: str
    cgroup: str
    addresses: Sequence[Address]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    kinds: Sequence[Kind]
    port: int
    """Where the listener of this process is: on every address of the loopback interface."""
    rounds: int
    batch: int
    """Connects of each kind in a round."""
    warm_up: int
    """Of those, how many are not counted."""

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Job:
        fields = json.loads(line)
        kinds = [_read_kind(kind) for kind in fields.pop("kinds")]
        return cls(**fields, kinds=kinds)


def _read_kind(fields: dict[str, Any]) -> Kind:
    addresses = [(ip, port) for ip, port in fields["addresses"]]
    return Kind(name=fields["name"], cgroup=fields["cgroup"], addresses=addresses)


def main() -> None:
    job = Job.from_line(sys.stdin.read())
    with _listen(job.port) as listener:
        for _ in range(job.rounds):
            print(json.dumps(dict(_run_round(job, listener))), flush=True)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    listener.bind(("", port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _run_round(job: Job, listener: socket.socket) -> Iterator[tuple[str, float]]:
    for kind in random.sample(job.kinds, len(job.kinds)):
        (Path(kind.cgroup) / "cgroup.procs").write_text(str(os.getpid()))
        times = _connect_all(random.choices(kind.addresses, k=job.batch))
        _drain(listener)
        yield kind.name, statistics.median(times[job.warm_up :])


def _connect_all(addresses: Sequence[Address]) -> list[int]:
    clock = time.perf_counter_ns
    sockets = [socket.socket() for _ in addresses]
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    times = []
    for sock, address in zip(sockets, addresses, strict=True):
        started = clock()
        sock.connect(address)
        times.append(clock() - started)
    for sock in sockets:
        sock.close()
    return times


def _drain(listener: socket.socket) -> None:
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return


if __name__ == "__main__":
    main()
