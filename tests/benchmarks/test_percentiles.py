"""Percentiles by nearest rank, against what can be counted by hand."""

from __future__ import annotations

import pytest

from benchmarks.traffic.percentiles import percentiles


@pytest.mark.parametrize(
    ("latencies_ns", "want"),
    [
        pytest.param([7_000], {"p50": 7, "p90": 7, "p99": 7, "p999": 7}, id="one"),
        pytest.param([2_000, 1_000], {"p50": 1, "p90": 2, "p99": 2, "p999": 2}, id="two, unordered"),
        pytest.param(
            [n * 1000 for n in range(1000, 0, -1)], {"p50": 500, "p90": 900, "p99": 990, "p999": 999}, id="thousand"
        ),
        pytest.param([1_000] * 999 + [1_000_000], {"p50": 1, "p90": 1, "p99": 1, "p999": 1}, id="one in a thousand"),
        pytest.param([1_500], {"p50": 1.5, "p90": 1.5, "p99": 1.5, "p999": 1.5}, id="below a microsecond"),
    ],
)
def test_percentiles(latencies_ns: list[int], want: dict[str, float]) -> None:
    assert percentiles(latencies_ns) == want


def test_nothing_has_no_percentiles() -> None:
    assert percentiles([]) is None
