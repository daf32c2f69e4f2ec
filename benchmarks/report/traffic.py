"""Traffic: latency by percentile, CPU and throughput, by workload and scenario. Errors take the place of figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.report.charts import Axis, bar_chart, line_chart, write_number
from benchmarks.report.markup import Element, element, table

__all__ = ["show_traffic"]

_Json = dict[str, Any]
_RANKS = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9"}
_CPU = ("user", "system", "softirq")


def show_traffic(traffic: _Json) -> Iterator[Element | None]:
    yield _show_errors(traffic)
    yield element("h3", "Throughput, requests per second (MB/s)")
    yield table(
        ["workload", *traffic["scenarios"]],
        [[w, *(_write_throughput(traffic, s, w) for s in traffic["scenarios"])] for w in traffic["workloads"]],
    )
    yield element("h3", "Latency, medians of repetitions")
    yield _charts(_chart_latency(traffic, workload) for workload in traffic["workloads"])
    yield element("h3", "CPU of the whole machine for 1,000 requests")
    yield _charts(_chart_cpu(traffic, workload) for workload in traffic["workloads"])
    memory = {
        scenario: {process: size / 2**20 for process, size in found.items()}
        for scenario, found in traffic.get("memory_bytes", {}).items()
    }
    yield _charts(iter([bar_chart("Resident memory of the mesh's processes", memory, Axis(unit="MiB"))]))


def _show_errors(traffic: _Json) -> Element:
    rows = [
        [f"{s['scenario']}, {s['workload']}", str(s["repetition"]), str(s["errors"]), str(s["non_2xx"])]
        for s in traffic["samples"]
        if s["errors"] or s["non_2xx"]
    ]
    if not rows:
        return element("p", f"No errors and no answers but 2xx in {len(traffic['samples'])} samples.")
    told = element("p", "What had an error is not a result, and is left out below:", class_="bad")
    return element("div", told, table(["scenario and workload", "repetition", "errors", "not 2xx"], rows))


def _results(traffic: _Json, scenario: str, workload: str) -> list[_Json]:
    """None at all when one of them had an error."""
    found = [s for s in traffic["samples"] if (s["scenario"], s["workload"]) == (scenario, workload)]
    is_result = all(s["requests"] and not s["errors"] and not s["non_2xx"] for s in found)
    return found if is_result else []


def _median(samples: list[_Json], figure: Callable[[_Json], float]) -> float | None:
    return statistics.median(map(figure, samples)) if samples else None


def _write_throughput(traffic: _Json, scenario: str, workload: str) -> str:
    samples = _results(traffic, scenario, workload)
    requests = _median(samples, lambda s: s["per_second"])
    megabytes = _median(samples, lambda s: s["bytes"] / s["seconds"] / 1e6)
    if requests is None or megabytes is None:
        return "no result"
    return f"{write_number(requests)} ({write_number(megabytes)})"


def _chart_latency(traffic: _Json, workload: str) -> Element | None:
    series = {}
    for scenario in traffic["scenarios"]:
        timed = [s["latency_us"] for s in _results(traffic, scenario, workload) if s["latency_us"]]
        series[scenario] = [_median(timed, lambda found, rank=rank: found[rank]) for rank in _RANKS]
    return line_chart(workload, list(_RANKS.values()), series, Axis(unit="us", is_log=True))


def _chart_cpu(traffic: _Json, workload: str) -> Element | None:
    bars = {}
    for scenario in traffic["scenarios"]:
        samples = _results(traffic, scenario, workload)
        found = {part: _median(samples, lambda s, p=part: s["cpu_s"][p] / s["requests"] * 1e6) for part in _CPU}
        bars[scenario] = {part: value for part, value in found.items() if value is not None}
    return bar_chart(workload, bars, Axis(unit="ms"))


def _charts(charts: Iterator[Element | None]) -> Element | None:
    found = [chart for chart in charts if chart is not None]
    return element("div", *found, class_="charts") if found else None
