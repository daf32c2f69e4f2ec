"""What a resource asks for that the kernel path does not do, named so that a user can find it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Effect", "Limitation"]


class Effect(Enum):
    """What becomes of a connection that the limitation concerns, or of its requests."""

    REFUSED = "refused"
    """Routing it exactly is not possible here: the connection is refused (ECONNREFUSED)."""
    RELAYED = "relayed"
    """Routed exactly, request by request, and in user space only."""
    UNENFORCED = "unenforced"
    """Routed exactly; a protection beside routing (a timeout, a circuit breaker) is not applied."""
    APPROXIMATED = "approximated"
    """Sent to an endpoint the configuration allows, chosen by a simpler rule than the one named."""
    INACTIVE = "inactive"
    """The resource captures no connection here (for example an inbound listener)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limitation:
    """One feature of one resource. `path` is the proto path inside the resource, "" for the whole."""

    feature: str
    path: str
    effect: Effect
