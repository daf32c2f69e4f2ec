"""Whether anything grows: requests of every kind for many minutes, and what they leave behind.

`python -m benchmarks.soak [MINUTES]`, as root; 15 minutes by default. One client pod asks, one server pod answers,
through one bridge and its relay. Loads run side by side and again and again:

    keep-alive     wrk, 16 connections: the kernel's
    reconnecting   wrk, 4 connections, each for one request
    relayed        bodies of STREAM_BYTES down and 30 MB up, and answers of the relay's own

Every ten seconds: resident memory of bridge, relay and keeper, unreclaimable slab, sockets, the kernel's memory for
TCP, and descriptors of the relay. The first quarter warms up. Of the rest the median of the first third is held
against that of the last; exits with 1 where the last is larger by more than GROWTH and by more than the figure's own
unit of noise, or when a load failed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import Memory
from benchmarks.figures import print_table, say
from benchmarks.traffic.run import Traffic, run_scenarios
from benchmarks.traffic.scenarios import kmesh_http
from benchmarks.traffic.topology import HTTP, UPLOAD

__all__: list[str] = []

GROWTH = 1.05
_SAMPLE_S = 10.0
_LOAD_S = 20
_NOISE: Mapping[str, float] = {"KiB": 2048, "": 200, "pages": 2000}
"""By unit."""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    unit: str
    value: float


def look(processes: Mapping[str, int]) -> Iterator[Figure]:
    for name, pid in processes.items():
        yield Figure(f"{name}, resident", "KiB", Memory.of(pid).rss)
        yield Figure(f"{name}, descriptors", "", len(list(Path(f"/proc/{pid}/fd").iterdir())))
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    yield Figure("slab, unreclaimable", "KiB", float(meminfo["SUnreclaim"].split()[0]))
    rows = {line.split()[0]: line.split() for line in Path("/proc/net/sockstat").read_text().splitlines()}
    tcp = dict(zip(rows["TCP:"][1::2], rows["TCP:"][2::2], strict=True))
    yield Figure("TCP sockets", "", float(tcp["alloc"]))
    yield Figure("TCP memory", "pages", float(tcp["mem"]))


class Loads:
    """Keeps one process of each kind running."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        target = traffic.running[kmesh_http.SCENARIO.name].target
        url = f"http://{target}:{HTTP}/"
        wrk = ["wrk", "--threads", "1", "--duration", f"{_LOAD_S}s", "--connections"]
        stream = [sys.executable, "-m", "benchmarks.traffic.loads.http_stream", target]
        self._commands = {
            "keep-alive": [*wrk, "16", url],
            "reconnecting": [*wrk, "4", "--header", "Connection: close", url],
            "down": [*stream, str(HTTP), "down", "/stream", "300000000"],
            "up": [*stream, str(UPLOAD), "up", "/", "30000000"],
            "relay's own answers": [*wrk, "2", "--header", "Host: nobody", url],
        }
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.failed: list[str] = []
        self.rounds = 0

    def keep_up(self) -> None:
        for name, command in self._commands.items():
            process = self._running.get(name)
            if process is None or process.poll() is not None:
                if process:
                    self._judge(name, process)
                self._running[name] = self._traffic.spawn(kmesh_http.SCENARIO, command)

    def finish(self) -> None:
        for name, process in self._running.items():
            process.wait(3 * _LOAD_S)
            self._judge(name, process)

    def _judge(self, name: str, process: subprocess.Popen[str]) -> None:
        out, err = process.communicate()
        is_wrong = process.returncode or "Socket errors" in out
        is_wrong = is_wrong or (name != "relay's own answers" and "Non-2xx" in out)
        if is_wrong:
            self.failed.append(f"{name}: {(err.strip() or out.strip()).splitlines()[-1]}")
        self.rounds += 1


def judge(samples: Sequence[Sequence[Figure]]) -> bool:
    """Print the table; returns whether nothing grew."""
    steady = samples[len(samples) // 4 :]
    third = max(1, len(steady) // 3)
    rows, is_flat = [], True
    for column, figure in enumerate(steady[0]):
        values = [sample[column].value for sample in steady]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        grew = last > first * GROWTH and last - first > _NOISE[figure.unit]
        is_flat = is_flat and not grew
        levels = (f"{value:.0f}" for value in (first, last, max(values)))
        rows.append((figure.name, figure.unit, *levels, "GREW" if grew else ""))
    print_table(("figure", "unit", "first third", "last third", "highest", ""), rows)
    return is_flat


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    samples: list[list[Figure]] = []
    with ExitStack() as stack:
        traffic = stack.enter_context(run_scenarios([kmesh_http.SCENARIO]))
        loads, processes = Loads(traffic), traffic.running[kmesh_http.SCENARIO.name].processes
        ends = time.monotonic() + 60 * minutes
        while time.monotonic() < ends:
            loads.keep_up()
            time.sleep(_SAMPLE_S)
            samples.append(list(look(processes)))
            say(f"soak: {(ends - time.monotonic()) / 60:.1f} minutes left, {loads.rounds} loads done")
        loads.finish()
    is_flat = judge(samples)
    for failure in loads.failed:
        print(failure)
    print(f"{loads.rounds} loads, {len(loads.failed)} failed, {minutes:g} minutes")
    return 0 if is_flat and not loads.failed else 1


if __name__ == "__main__":
    sys.exit(main())
