"""The checked-in C header is what the records say, and its prose survives the trip into C."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files

import pytest

from kmesh.records.constants import LIMITS, Action, NodeKind, Reason
from kmesh.records.header import render_header
from kmesh.records.layout import ALL, Record
from tests.support.sandbox import REPO


def test_the_checked_in_header_is_up_to_date() -> None:
    want = (files("kmesh") / "bpf_src" / "km_records.h").read_text()
    assert render_header() == want, "run: python -m kmesh.records.header > kmesh/bpf_src/km_records.h"


def test_the_command_prints_the_header() -> None:
    command = [sys.executable, "-m", "kmesh.records.header"]
    got = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True, timeout=30).stdout
    assert got == render_header()


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.name)
def test_every_size_and_offset_is_asserted_in_c(record: Record) -> None:
    header = render_header()
    assert f"_Static_assert(sizeof(struct {record.name}) == {record.size}," in header
    for field in record.fields:
        offset = f"__builtin_offsetof(struct {record.name}, {field.name}) == {record.offset(field.name)},"
        assert offset in header


def test_no_comment_ends_early() -> None:
    for line in render_header().splitlines():
        assert line.count("/*") == line.count("*/") <= 1


def test_numbers_are_defined_once() -> None:
    names = re.findall(r"^#define (\w+)", render_header(), re.MULTILINE)
    assert len(names) == len(set(names))
    want = {f"KM_MAX_{name}" for name in LIMITS} | {f"KM_A_{action.name}" for action in Action}
    want |= {f"KM_K_{kind.name}" for kind in NodeKind} | {f"KM_R_{reason.name}" for reason in Reason}
    assert want <= set(names)


def test_reasons_have_no_gaps() -> None:
    """The array of counters has KM_R_COUNT elements, and everything from NO_ENDPOINT on is a refusal."""
    assert list(Reason) == list(range(len(Reason)))
