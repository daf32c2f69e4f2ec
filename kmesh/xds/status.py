"""A picture of the xDS client for people: what `kmeshctl status` and metrics read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

__all__ = ["AdsStatus", "StreamState", "TypeStatus"]


class StreamState(Enum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    BACKING_OFF = "backing off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatus:
    """One resource type. Counts are since the start of the process."""

    name: str
    """Short: "LDS"."""
    type_url: str
    version: str
    """Last accepted."""
    nonce: str
    """Of the last response on this stream; "" before it."""
    resources: int
    """Accepted and held."""
    subscribed: int | None
    """Names asked for; None for the wildcard."""
    responses: int
    is_rejected: bool
    """The latest response was rejected."""
    last_nack: str
    """Kept after it was made good; "" when there was none."""
    last_nack_at: datetime | None
    rejected: tuple[tuple[str, str], ...]
    """(name, reason) of resources whose latest version was refused, sorted by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdsStatus:
    """The stream and its types, in the order of their first requests. Times are UTC."""

    server: str
    variant: str
    state: StreamState
    connected_since: datetime | None
    """None unless CONNECTED."""
    last_error: str
    """Why the last stream ended or did not open; kept after a reconnect; "" when none ever failed."""
    last_error_at: datetime | None
    attempts: int
    """Streams opened or tried since the last good response, which resets it to 0."""
    next_attempt_at: datetime | None
    """None unless BACKING_OFF."""
    types: tuple[TypeStatus, ...]
