from __future__ import annotations

from collections import Counter
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.schedule import schedule_round


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        pytest.param([3, 3, 3], [0, 1, 2], id="equal"),
        pytest.param([4, 2, 2], [0, 0, 1, 2], id="common_divisor"),
        pytest.param([3, 1], [0, 0, 0, 1], id="due_together_in_order"),
        pytest.param([3, 2], [0, 1, 0, 0, 1], id="interleaved"),
    ],
)
def test_round(weights: list[int], want: list[int]) -> None:
    assert schedule_round(weights) == want


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_each_has_its_turns_evenly(weights: list[int]) -> None:
    got = schedule_round(weights)
    turns = [weight // gcd(*weights) for weight in weights]
    assert Counter(got) == Counter(dict(enumerate(turns)))
    for taken in range(len(got)):
        counts = Counter(got[:taken])
        for index, count in enumerate(turns):
            assert abs(counts[index] - count * taken / len(got)) <= len(turns)
