"""Closed-loop HTTP by wrk: each connection sends its next request when it has the answer to its last.

`python -m benchmarks.traffic.loads.http_closed URL CONNECTIONS WARM_UP_S SECONDS [--reconnect]`. With --reconnect
each request has a connection of its own; wrk's latency begins after connect(), so only throughput and CPU tell what
that costs. wrk fills up the latencies that its own waiting hid (its correction for coordinated omission), alike in
every scenario.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.traffic.cpu import Cpu
from benchmarks.traffic.measured import Measured

__all__: list[str] = []

_SCRIPT = Path(__file__).with_name("wrk.lua")
_GRACE_S = 15.0


def main() -> None:
    url, connections, warm_up_s, seconds, *options = sys.argv[1:]
    headers = ["--header", "Connection: close"] if "--reconnect" in options else []
    _run_wrk(url, int(connections), float(warm_up_s), headers)
    before = Cpu.now()
    found = _run_wrk(url, int(connections), float(seconds), headers)
    print(Measured(**found, cpu=Cpu.now() - before).to_line())


def _run_wrk(url: str, connections: int, seconds: float, headers: list[str]) -> dict[str, Any]:
    """wrk counts in whole seconds, so it is told to go on for long, and then to stop: SIGINT makes it report."""
    threads = min(connections, os.cpu_count() or 1)
    command = ["wrk", "--threads", str(threads), "--connections", str(connections)]
    command += ["--duration", "1h", "--script", str(_SCRIPT), *headers, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        _wait_for_handler(wrk)
        time.sleep(seconds)
        wrk.send_signal(signal.SIGINT)
        out, _ = wrk.communicate(timeout=_GRACE_S)
    if wrk.returncode:
        raise RuntimeError(f"wrk ended with {wrk.returncode}: {out}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def _wait_for_handler(wrk: subprocess.Popen[str]) -> None:
    """It takes SIGINT for the end of the measurement once its threads run; before, that would kill it."""
    deadline = time.monotonic() + _GRACE_S
    while wrk.poll() is None and time.monotonic() < deadline:
        status = Path(f"/proc/{wrk.pid}/status").read_text()
        caught = re.search(r"(?m)^SigCgt:\s*(\w+)", status)
        if caught and int(caught[1], 16) >> signal.SIGINT - 1 & 1:
            return
        time.sleep(0.005)


if __name__ == "__main__":
    main()
