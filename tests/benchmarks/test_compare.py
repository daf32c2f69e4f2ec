"""What counts as a change between two results, and what makes the exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import Change, Figure, Verdict, compare_results, main

Json = dict[str, Any]
RATIO = "service / direct, 10 services"


def figure(value: float, spread: float) -> Figure:
    return Figure(value=value, low=value - spread, high=value + spread)


def result(ratio: float, *, spread: list[float] | None = None, name: str = "service / direct") -> Json:
    found: Json = {"kernel": "6.1", "ratios": {name: {"10 services": ratio}}}
    return found | ({"spreads": {name: {"10 services": spread}}} if spread else {})


def sample(repetition: int, per_second: float, errors: int = 0) -> Json:
    return {
        "scenario": "direct",
        "workload": "http-1",
        "repetition": repetition,
        "seconds": 1.0,
        "requests": 1000,
        "bytes": 1000,
        "errors": errors,
        "non_2xx": 0,
        "per_second": per_second,
        "latency_us": {"p50": 10.0, "p90": 12.0, "p99": 30.0, "p999": 90.0},
        "cpu_s": {"user": 0.1, "system": 0.2, "softirq": 0.1},
    }


@pytest.mark.parametrize(
    ("name", "before", "after", "want"),
    [
        pytest.param("x", figure(1, 0.1), figure(1.15, 0.1), Verdict.SAME, id="spreads overlap"),
        pytest.param("x", figure(1, 0.1), figure(1.3, 0.1), Verdict.WORSE, id="more"),
        pytest.param("x", figure(1, 0.1), figure(0.7, 0.1), Verdict.BETTER, id="less"),
        pytest.param("x", figure(1, 0), figure(1, 0), Verdict.SAME, id="equal, without a spread"),
        pytest.param("requests/s, a", figure(1, 0.1), figure(0.7, 0.1), Verdict.WORSE, id="less throughput"),
        pytest.param("requests/s, a", figure(1, 0.1), figure(1.3, 0.1), Verdict.BETTER, id="more throughput"),
        pytest.param("x", None, figure(1, 0.1), Verdict.NEW, id="only after"),
        pytest.param("x", figure(1, 0.1), None, Verdict.GONE, id="only before"),
    ],
)
def test_verdict(name: str, before: Figure | None, after: Figure | None, want: Verdict) -> None:
    assert Change(name=name, before=before, after=after).verdict is want


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        pytest.param(result(1.0), result(1.2), 0, id="unknown spreads reach each other"),
        pytest.param(result(1.0), result(1.3), 1, id="beyond unknown spreads"),
        pytest.param(result(1.0, spread=[0.99, 1.01]), result(1.05, spread=[1.04, 1.06]), 1, id="beyond known ones"),
        pytest.param(result(1.0, spread=[0.5, 1.5]), result(1.3, spread=[1.2, 1.6]), 0, id="within known ones"),
        pytest.param(result(1.0), result(0.5), 0, id="better"),
        pytest.param(result(1.0), result(9.0, name="another"), 0, id="not in both"),
    ],
)
def test_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: Json, after: Json, want: int
) -> None:
    paths = []
    for name, content in (("a.json", before), ("b.json", after)):
        (tmp_path / name).write_text(json.dumps(content))
        paths.append(str(tmp_path / name))
    assert main(paths) == want
    assert (f"worse beyond the spread: {RATIO}" in capsys.readouterr().out) == bool(want)


def test_medians_are_found_however_deep_and_change_no_exit_status() -> None:
    def with_median(median: float) -> Json:
        summary = {"median": median, "q1": median, "q3": median, "min": 0, "max": 9, "samples": 3}
        return {"connect": {"summaries": {"10": {"direct": summary}}}}

    comparison = compare_results(with_median(1.0), with_median(2.0))
    assert [(change.name, change.verdict) for change in comparison.medians] == [
        ("connect, 10, direct", Verdict.WORSE)
    ]
    assert not comparison.is_worse


def test_medians_of_traffic_are_computed_from_samples_without_errors() -> None:
    good = {"traffic": {"samples": [sample(0, 90.0), sample(1, 100.0), sample(2, 400.0)]}}
    bad = {"traffic": {"samples": [sample(0, 100.0), sample(1, 100.0, errors=1)]}}
    got = {change.name: change for change in compare_results(good, bad).medians}
    throughput = got["requests/s, direct, http-1"]
    assert throughput.before == Figure(value=100.0, low=95.0, high=250.0)
    assert throughput.verdict is Verdict.GONE
    cpu = got["CPU ms per 1000 requests, direct, http-1"].before
    assert cpu is not None and cpu.value == pytest.approx(400.0)
