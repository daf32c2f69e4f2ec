"""One response and what the client says of it: nonces, ACK and NACK, and what an empty list of names means.

Sans-IO; the same for both variants of the protocol.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from kmesh.xds.server.catalog import EDS, RDS, type_url_of

__all__ = ["PATIENCE_S", "Answer", "Delivery", "Receipt", "is_legacy_wildcard"]

PATIENCE_S = 5.0
"""How long the server lets a client's silence, or endless change, delay what it has to say."""

_NAMED_TYPES = frozenset((EDS, RDS, type_url_of(Secret), type_url_of(TypedExtensionConfig)))


class Answer(Enum):
    """What the client said of the last response of one type."""

    NOTHING_SENT = "nothing sent"
    AWAITED = "awaited"
    ACK = "ACK"
    NACK = "NACK"


@dataclass(slots=True)
class Delivery:
    """The last response of one type on one stream."""

    nonce: str = ""
    sent_at: float = 0.0
    answer: Answer = Answer.NOTHING_SENT

    def send(self, nonce: str, now: float) -> None:
        self.nonce, self.sent_at, self.answer = nonce, now, Answer.AWAITED

    def take(self, error: str | None) -> Answer | None:
        """Note a request that carries `nonce`; None when it answers nothing (a change of subscription)."""
        if error is not None:
            self.answer = Answer.NACK
        elif self.answer is Answer.AWAITED:
            self.answer = Answer.ACK
        else:
            return None
        return self.answer

    def is_awaited(self, now: float) -> bool:
        return self.answer is Answer.AWAITED and now < self.sent_at + PATIENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one request turned out to be, for the log."""

    type_url: str
    nonce: str
    answer: Answer | None = None
    """ACK, NACK, or None for a request that answers no response."""
    error: str | None = None
    """The client's words in a NACK."""
    is_stale: bool = False
    """It answers a response that a newer one has replaced."""


def is_legacy_wildcard(type_url: str, names: Collection[str]) -> bool:
    """Whether the first request of a type asks for everything without saying "*".

    Types that are found by name through another resource are the exception: Envoy asks for none of them when it
    reconnects after the last one went.
    """
    return not names and type_url not in _NAMED_TYPES
