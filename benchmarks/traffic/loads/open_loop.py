"""Open-loop HTTP: requests begin at fixed times, whatever became of those before; latency counts from those times.

`python -m benchmarks.traffic.loads.open_loop HOST PORT CONNECTIONS RATE WARM_UP_S SECONDS`. A request whose time has
come while all connections are busy waits, and its waiting is part of its latency, so a stall shows in as many
requests as it held up. Times are evenly spaced. The loop sleeps in select(), with the timer slack of the process at
1 ns. What it adds itself is in the figures of every scenario: where wrk finds answers after 11 us, its p50 is 70 to
100 us, most of it for waking up.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.traffic.cpu import Cpu
from benchmarks.traffic.measured import Measured
from benchmarks.traffic.percentiles import percentiles

__all__ = ["Answers", "Connection"]

_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_PATIENCE_NS = 2_000_000_000
"""For the last answers, after the last request."""


class Connection:
    """One keep-alive connection, with at most one request on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.intended_ns = 0
        """When the request that is on it should have been sent."""
        self._received = b""

    def send(self, intended_ns: int) -> None:
        self.intended_ns = intended_ns
        self.sock.send(_REQUEST)

    def read(self) -> bytes | None:
        """The whole answer once it is here, None before. Raises: OSError, when the connection is over."""
        more = self.sock.recv(65536)
        if not more:
            raise ConnectionError("closed by the server")
        self._received += more
        head_end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received) if head_end >= 0 else None
        if length is None or len(self._received) < head_end + 4 + int(length[1]):
            return None
        answer, self._received = self._received, b""
        return answer


@dataclass(slots=True, kw_only=True)
class Answers:
    latencies_ns: list[int] = field(default_factory=list)
    received: int = 0
    """Bytes, heads included."""
    errors: int = 0
    non_2xx: int = 0

    def add(self, answer: bytes, latency_ns: int) -> None:
        self.latencies_ns.append(latency_ns)
        self.received += len(answer)
        self.non_2xx += not answer.startswith(b"HTTP/1.1 2")


def main() -> None:
    host, port, connections, rate, warm_up_s, seconds = sys.argv[1:]
    Path("/proc/self/timerslack_ns").write_text("1")
    gc.disable()
    pool = [_connect(host, int(port)) for _ in range(int(connections))]
    if _run(pool, float(rate), float(warm_up_s)).errors:
        sys.exit("errors while warming up")
    before, started = Cpu.now(), time.monotonic()
    answers = _run(pool, float(rate), float(seconds))
    measured = Measured(
        seconds=time.monotonic() - started,
        requests=len(answers.latencies_ns),
        bytes=answers.received,
        errors=answers.errors,
        non_2xx=answers.non_2xx,
        latency_us=percentiles(answers.latencies_ns),
        cpu=Cpu.now() - before,
    )
    print(measured.to_line())


def _connect(host: str, port: int) -> Connection:
    sock = socket.create_connection((host, port), 5.0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return Connection(sock)


def _run(pool: list[Connection], rate: float, seconds: float) -> Answers:
    """One phase. A connection that breaks is not used again, and its request is an error."""
    clock = time.perf_counter_ns
    answers, due, idle = Answers(), deque[int](), deque(pool)
    busy = {connection.sock.fileno(): connection for connection in pool}
    interval_ns, total = 1e9 / rate, int(rate * seconds)
    with select.epoll() as poller:
        for number in busy:
            poller.register(number, select.EPOLLIN)
        begin, planned = clock(), 0
        end = begin + int(seconds * 1e9) + _PATIENCE_NS
        while len(answers.latencies_ns) + answers.errors < total and (now := clock()) < end:
            while planned < total and begin + planned * interval_ns <= now:
                due.append(begin + int(planned * interval_ns))
                planned += 1
            while due and idle:
                idle.popleft().send(due.popleft())
            wake_ns = begin + planned * interval_ns if planned < total else end
            # epoll_wait() sleeps whole milliseconds; select() on the epoll descriptor sleeps microseconds.
            select.select([poller], [], [], max(0.0, wake_ns - clock()) / 1e9)
            for number, _ in poller.poll(0):
                _take(busy[number], answers, idle, poller)
    answers.errors = total - len(answers.latencies_ns)
    return answers


def _take(connection: Connection, answers: Answers, idle: deque[Connection], poller: select.epoll) -> None:
    try:
        answer = connection.read()
    except OSError:
        poller.unregister(connection.sock)
        if connection in idle:
            idle.remove(connection)
        else:
            answers.errors += 1
        return
    if answer is not None:
        answers.add(answer, time.perf_counter_ns() - connection.intended_ns)
        idle.append(connection)


if __name__ == "__main__":
    main()
