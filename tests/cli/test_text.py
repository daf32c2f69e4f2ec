"""kmesh.cli.text: small layouts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kmesh.cli.text import (
    Paint,
    clip,
    format_age,
    format_duration,
    format_size,
    format_table,
    mask_controls,
    wrap_field,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "seconds, want",
    [
        (-5, "0s"),
        (0, "0s"),
        (0.0004, "0.4 ms"),
        (0.25, "250.0 ms"),
        (1, "1s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (11530, "3h12m"),
        (356400, "4d03h"),
    ],
)
def test_durations(seconds: float, want: str) -> None:
    assert format_duration(seconds) == want


@pytest.mark.parametrize(
    "at, want", [(None, "never"), (NOW - timedelta(seconds=12), "12s ago")], ids=["never", "past"]
)
def test_ages(at: datetime | None, want: str) -> None:
    assert format_age(at, NOW) == want


@pytest.mark.parametrize(
    "size, want", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")]
)
def test_sizes(size: int, want: str) -> None:
    assert format_size(size) == want


@pytest.mark.parametrize("text, want", [("abc", "abc"), ("abcd", "ab…"), ("a\n\x1b", "a��")])
def test_clip(text: str, want: str) -> None:
    assert clip(text, 3) == want


def test_nothing_steers_the_terminal() -> None:
    hostile = "a\x1b]0;owned\x07\x9b2J"
    assert mask_controls(hostile + "\n") == "a�]0;owned��2J\n"
    assert wrap_field("", hostile, 0) == ["a�]0;owned��2J"]
    assert list(format_table([(hostile,)], "<")) == ["a�]0;owned��2J"]


def test_fields_wrap_under_themselves() -> None:
    got = wrap_field("xds", "word " * 30, 10)
    assert got == ["xds       " + "word " * 17 + "word", " " * 10 + "word " * 11 + "word"]


def test_tables_align_and_fit() -> None:
    got = list(format_table([("MAP", "USED", "WHERE"), ("a", "1,000", "x" * 200)], "<><"))
    assert got[0] == "MAP   USED  WHERE"
    assert got[1] == "a    1,000  " + "x" * 87 + "…"


@pytest.mark.parametrize("is_coloured, want", [(True, "\x1b[1;31mno\x1b[0m"), (False, "no")])
def test_paint(is_coloured: bool, want: str) -> None:
    assert Paint(is_coloured).bad("no") == want
