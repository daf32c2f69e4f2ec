"""How a step says that the request is the relay's."""

from __future__ import annotations

from kmesh.compiler.interpreter.broken import Broken
from kmesh.records.constants import Handover

__all__ = ["HandedOver", "read_reason"]


class HandedOver(Exception):
    """Nothing more is read or looked up: the relay carries the request."""

    def __init__(self, reason: Handover) -> None:
        super().__init__(reason)
        self.reason = reason


def read_reason(number: int) -> Handover:
    """The Handover that a record names. Raises: Broken."""
    if not Handover.NONE < number <= max(Handover):
        raise Broken(f"no reason to hand over has the number {number}")
    return Handover(number)
