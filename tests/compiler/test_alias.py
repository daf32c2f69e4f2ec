from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.compiler.alias import ALWAYS, make_alias_table

DRAWS = 1 << 32
BOUND = Fraction(1, 2**25)


def probabilities(table: list[tuple[int, int]]) -> list[Fraction]:
    """Exact, by counting the draws that lead to each entry."""
    count = len(table)
    found = [Fraction(0)] * count
    for index, (threshold, alias) in enumerate(table):
        first = -(-index * DRAWS // count)
        after_last = -(-(index + 1) * DRAWS // count)
        share = Fraction(after_last - first, DRAWS)
        stay = Fraction(threshold + 1, DRAWS)
        found[index] += share * stay
        found[alias] += share * (1 - stay)
    return found


WEIGHTS = st.one_of(st.integers(1, 10), st.integers(1, 2**32 - 1), st.integers(1, 2**200))


@given(st.lists(WEIGHTS, min_size=1, max_size=64))
def test_every_probability_is_within_the_bound(weights: list[int]) -> None:
    got = probabilities(make_alias_table(weights))
    assert sum(got) == 1
    for weight, probability in zip(weights, got, strict=True):
        assert abs(probability - Fraction(weight, sum(weights))) < BOUND
        assert probability > 0


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        pytest.param([7], [(ALWAYS, 0)], id="one"),
        pytest.param([5, 5], [(ALWAYS, 0), (ALWAYS, 1)], id="equal"),
        pytest.param([3, 1], [(ALWAYS, 0), (2**31 - 1, 0)], id="three_to_one_is_exact"),
        pytest.param([2**32 - 1, 1], [(ALWAYS, 0), (1, 0)], id="least_share"),
        pytest.param([2**200, 1], [(ALWAYS, 0), (0, 0)], id="never_nothing"),
    ],
)
def test_table(weights: list[int], want: list[tuple[int, int]]) -> None:
    assert make_alias_table(weights) == want
