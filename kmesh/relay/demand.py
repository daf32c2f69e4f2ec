"""How many free connections a pool should have, by how fast they were taken. Pure: `now` is given, in seconds.

    takes per 100 ms        peak of this window and the one before        target
    3, 0, 7, 2, ...         7                                             14

Nothing taken for IDLE_S: none are needed.
"""

from __future__ import annotations

from kmesh.records.constants import LIMITS

__all__ = ["IDLE_S", "Demand"]

IDLE_S = 60.0
_STEP_S = 0.1
_WINDOW_S = 5.0
_LEAST = 2
_SPARE = 2
"""Times the peak: what is taken while the next ones are being made."""


class Demand:
    def __init__(self) -> None:
        self._step_at = self._window_at = self._last_at = float("-inf")
        self._in_step = self._peak = self._peak_before = 0

    def note(self, now: float, count: int = 1) -> None:
        """So many were taken, or asked for in vain; less than 0: came back."""
        self._turn(now)
        if now - self._step_at >= _STEP_S:
            self._step_at, self._in_step = now, 0
        self._in_step = max(0, self._in_step + count)
        self._peak = max(self._peak, self._in_step)
        self._last_at = now

    def target(self, now: float) -> int:
        """0 when it is idle, else _LEAST to POOL_SIZE."""
        if now - self._last_at >= IDLE_S:
            return 0
        self._turn(now)
        wanted = _SPARE * max(self._peak, self._peak_before)
        return max(_LEAST, min(wanted, LIMITS["POOL_SIZE"]))

    def _turn(self, now: float) -> None:
        passed = now - self._window_at
        if passed >= _WINDOW_S:
            self._peak_before = self._peak if passed < 2 * _WINDOW_S else 0
            self._peak, self._window_at = 0, now
