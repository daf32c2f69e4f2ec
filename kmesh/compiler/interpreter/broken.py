"""The one way in which tables can be wrong for those who execute them."""

from __future__ import annotations

__all__ = ["Broken"]


class Broken(Exception):
    """A record is missing or unsound: the request is handed over (BROKEN), never guessed at."""
