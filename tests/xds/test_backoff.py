from __future__ import annotations

from kmesh.xds.backoff import Backoff


def test_ceiling_doubles_up_to_the_maximum_and_starts_again_after_reset() -> None:
    backoff = Backoff(initial_s=0.5, maximum_s=30.0, random=lambda: 1.0)
    got = [backoff.next_delay() for _ in range(8)]
    assert got == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    backoff.reset()
    assert backoff.next_delay() == 0.5


def test_jitter_is_full() -> None:
    draws = iter([0.0, 0.25, 0.999])
    backoff = Backoff(initial_s=1.0, maximum_s=30.0, random=lambda: next(draws))
    assert [backoff.next_delay() for _ in range(3)] == [0.0, 0.5, 3.996]


def test_years_of_failures_do_not_overflow() -> None:
    backoff = Backoff(initial_s=0.5, maximum_s=30.0, random=lambda: 1.0)
    assert {backoff.next_delay() for _ in range(5000)} <= {0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0}
