"""The traffic benchmarks as tables: a row for each workload, a column for each scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.figures import print_table, spread

__all__ = ["print_claims", "print_traffic"]

_Json = dict[str, Any]
_STREAMS = ("download", "upload")


def print_traffic(result: _Json) -> None:
    """From the JSON form of a result (benchmarks/SCHEMA.md)."""
    plan = result["plan"]
    print(
        f"traffic: medians of {plan['repetitions']} samples of {plan['seconds']:g} s (least to most), each after "
        f"{plan['warm_up_s']:g} s of warm-up; sidecars with {result['sidecar_concurrency']} workers"
    )
    _print_figure(result, "requests/s", _per_second)
    _print_figure(result, "MB/s", _megabytes_per_second)
    for rank, title in (("p50", "p50 us"), ("p90", "p90 us"), ("p99", "p99 us"), ("p999", "p99.9 us")):
        _print_figure(result, title, partial(_latency, rank))
    _print_figure(result, "CPU ms/1000 requests", _cpu)
    _print_memory(result)
    rows = [
        [g["claim"], _number(g["figure"]), _number(g["target"]), "" if g["passed"] else "missed"]
        for g in result.get("goals", ())
    ]
    print_table(["goal of kmesh-http", "measured", "at least", ""], rows)


def _number(figure: float | None) -> str:
    return "no result" if figure is None else f"{figure:.2f}"


def print_claims(claims: Sequence[_Json]) -> None:
    """Of any section."""
    rows = [
        [
            claim["claim"],
            claim["scenario"],
            "no result" if claim["figure"] is None else f"{claim['figure']:.1%}",
            f"{claim['target']:.0%}",
            "pass" if claim["passed"] else "FAIL",
        ]
        for claim in claims
    ]
    print_table(["claim", "scenario", "measured", "at least", ""], rows)


def _print_figure(result: _Json, title: str, figure: Callable[[_Json], float | None]) -> None:
    """Without the workloads that have no such figure."""
    rows = []
    for workload in result["workloads"]:
        cells = [_write_cell(result, scenario, workload, figure) for scenario in result["scenarios"]]
        if any(cells):
            rows.append([workload, *cells])
    print_table([title, *result["scenarios"]], rows)


def _write_cell(result: _Json, scenario: str, workload: str, figure: Callable[[_Json], float | None]) -> str:
    """Empty when the workload has no such figure; errors in its place when there are any."""
    samples = [s for s in result["samples"] if (s["scenario"], s["workload"]) == (scenario, workload)]
    errors = sum(s["errors"] + s["non_2xx"] for s in samples)
    if errors:
        return f"{errors} errors"
    values = [value for value in map(figure, samples) if value is not None]
    return spread(values, 0) if values else ""


def _print_memory(result: _Json) -> None:
    rows = [
        [scenario, process, f"{size / 2**20:.1f}"]
        for scenario, processes in result["memory_bytes"].items()
        for process, size in processes.items()
    ]
    print_table(["memory", "process", "RSS MiB"], rows)


def _per_second(sample: _Json) -> float | None:
    return None if sample["workload"] in _STREAMS else float(sample["per_second"])


def _megabytes_per_second(sample: _Json) -> float | None:
    return float(sample["bytes"] / sample["seconds"] / 1e6) if sample["workload"] in _STREAMS else None


def _latency(rank: str, sample: _Json) -> float | None:
    return float(sample["latency_us"][rank]) if sample["latency_us"] else None


def _cpu(sample: _Json) -> float | None:
    if sample["workload"] in _STREAMS:
        return None
    return float(sum(sample["cpu_s"].values()) / sample["requests"] * 1e6)
