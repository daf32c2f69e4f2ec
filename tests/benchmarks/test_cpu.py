"""CPU time as /proc/stat tells it."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks.traffic.cpu import Cpu

STAT = """cpu  100 20 300 4000 50 6 70 8 9 10
cpu0 1 1 1 1 1 1 1 1 1 1
intr 5 0
"""


def test_parse() -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    got = Cpu.parse(STAT)
    assert (got.user, got.system, got.softirq) == pytest.approx((120 * tick, 300 * tick, 76 * tick))


def test_time_that_is_spent_is_seen() -> None:
    before, end = Cpu.now(), time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    assert (Cpu.now() - before).total >= 0.05
