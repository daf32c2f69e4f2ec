"""Exponential backoff with full jitter. No clock; the randomness is the caller's."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]

_MOST_DOUBLINGS = 32
"""Far beyond any sensible maximum, and far from overflowing a float."""


class Backoff:
    """Delays drawn evenly from [0, ceiling); the ceiling doubles from `initial_s` to `maximum_s`.

    Full jitter, as Envoy draws it (source/common/common/backoff_strategy.cc): a thousand clients that lose one
    server together come back spread over the whole interval.
    """

    def __init__(self, *, initial_s: float, maximum_s: float, random: Callable[[], float]) -> None:
        """`random` returns numbers from [0, 1)."""
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._random = random
        self._failures = 0

    def next_delay(self) -> float:
        """Seconds to wait after one more failure."""
        ceiling = min(self._maximum_s, self._initial_s * 2.0 ** min(self._failures, _MOST_DOUBLINGS))
        self._failures += 1
        return ceiling * self._random()

    def reset(self) -> None:
        """The next delay is drawn from [0, initial_s) again."""
        self._failures = 0
