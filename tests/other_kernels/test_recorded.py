"""The record of verified instructions."""

from __future__ import annotations

import pytest

from tests.other_kernels.recorded import find_growth, format_table, parse_table

COUNTS = {"6.1": {"km_connect4": 1000, "km_connect6": 2000}, "6.12": {"km_connect4": 500}}


def test_what_is_written_is_read() -> None:
    assert parse_table(format_table(COUNTS)) == COUNTS
    assert parse_table("nothing yet\n") == {}


def test_series_are_in_the_order_of_versions() -> None:
    assert "| program | 5.15 | 6.1 | 6.12 |" in format_table({"6.12": {}, "5.15": {}, "6.1": {}})


@pytest.mark.parametrize(
    ("count", "want"),
    [(900, []), (1100, []), (1101, ["km_connect4 on 6.1 grew by 10%, from 1000 to 1101"])],
    ids=["smaller", "within", "beyond"],
)
def test_growth(count: int, want: list[str]) -> None:
    assert list(find_growth(COUNTS, {"6.1": {"km_connect4": count}})) == want


@pytest.mark.parametrize("series", ["6.1", "6.18"], ids=["program", "series"])
def test_what_was_never_recorded_is_said(series: str) -> None:
    assert list(find_growth(COUNTS, {series: {"km_new": 1}})) == [f"km_new on {series} is not recorded"]
