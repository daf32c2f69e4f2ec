"""How many connections a pool should have, over time."""

from __future__ import annotations

from kmesh.records.constants import LIMITS
from kmesh.relay.demand import IDLE_S, Demand


def test_nothing_is_wanted_before_anything_was_asked_for() -> None:
    assert Demand().target(0.0) == 0


def test_a_little_is_wanted_for_a_minute_after_one_was_taken() -> None:
    demand = Demand()
    demand.note(10.0)
    assert demand.target(10.0) == 2
    assert demand.target(10.0 + IDLE_S - 1) == 2
    assert demand.target(10.0 + IDLE_S) == 0


def test_twice_the_peak_of_a_tenth_of_a_second_for_two_windows() -> None:
    demand = Demand()
    for at in range(30):
        demand.note(20.0 + at / 1000)
    demand.note(20.5)
    assert demand.target(21.0) == 60
    assert demand.target(26.0) == 60, "the window before counts too"
    assert demand.target(32.0) == 2


def test_what_came_back_is_not_wanted_again() -> None:
    demand = Demand()
    for _ in range(50):
        demand.note(1.0)
        demand.note(1.0, -1)
    assert demand.target(1.0) == 2


def test_a_pool_is_never_larger_than_its_queue() -> None:
    demand = Demand()
    demand.note(1.0, 10_000)
    assert demand.target(1.0) == LIMITS["POOL_SIZE"]
