"""TCP request and response: one connection, SIZE bytes there and the same back, then the next.

`python -m benchmarks.traffic.loads.request_response HOST PORT SIZE WARM_UP_S SECONDS`. Like netperf's TCP_RR, but
both ends are Python, whose own time is in every round trip, alike in every scenario.
"""

from __future__ import annotations

import gc
import socket
import sys
import time

from benchmarks.traffic.cpu import Cpu
from benchmarks.traffic.measured import Measured
from benchmarks.traffic.percentiles import percentiles

__all__: list[str] = []

_TIMEOUT_S = 5.0


def main() -> None:
    host, port, size, warm_up_s, seconds = sys.argv[1:]
    payload = bytes(int(size))
    gc.disable()
    with socket.create_connection((host, int(port)), _TIMEOUT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _exchange(sock, payload, float(warm_up_s))
        before, started = Cpu.now(), time.monotonic()
        latencies, errors = _exchange(sock, payload, float(seconds))
        measured = Measured(
            seconds=time.monotonic() - started,
            requests=len(latencies),
            bytes=len(latencies) * len(payload),
            errors=errors,
            non_2xx=0,
            latency_us=percentiles(latencies),
            cpu=Cpu.now() - before,
        )
    print(measured.to_line())


def _exchange(sock: socket.socket, payload: bytes, seconds: float) -> tuple[list[int], int]:
    """(nanoseconds of each, errors); an error ends it."""
    latencies: list[int] = []
    buffer = bytearray(len(payload))
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    try:
        while (started := clock()) < end:
            sock.sendall(payload)
            left = len(payload)
            while left:
                count = sock.recv_into(buffer, left)
                if not count:
                    return latencies, 1
                left -= count
            latencies.append(clock() - started)
    except OSError:
        return latencies, 1
    return latencies, 0


if __name__ == "__main__":
    main()
