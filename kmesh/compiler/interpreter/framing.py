"""Where requests and answers end, from the fields of a head that was read: what is plain is the kernel's to carry.

Step for step as the programs decide (docs/decisions/0009-streams.md), after read_head and, for a request, the match:

1. *Connection*: absent, or once and `keep-alive` in any case. (Transfer-Encoding, Expect and Upgrade end a request at
   the head automaton; of an answer Transfer-Encoding is a field, which must be absent.)
2. *Status* of an answer: below 200 it is an interim one, without a body, whatever its fields say; 101 and numbers
   below 100 are not plain.
3. *Content-Length*: absent, or once and of 1 to KM_NUMBER_DIGITS digits. A request without it has no body; an answer
   must have it, unless the request was HEAD or the status says that no body follows.
4. *Bounds*: KM_MAX_REQUEST_BODY_BYTES and KM_MAX_ANSWER_BODY_BYTES, of a body that follows.
5. *Bytes at hand*: a message to the kernel ends where its request does, or before.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.compiler.interpreter.head import Head
from kmesh.records.constants import LIMITS, Field, Handover

__all__ = ["AnswerFrame", "RequestFrame", "frame_answer", "frame_request"]

_NUMBER_DIGITS = 15
"""KM_NUMBER_DIGITS: more is no length of anything."""
_DIGITS = frozenset(b"0123456789")
_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFrame:
    """A plain request."""

    length: int
    """Of head and body, in bytes."""
    is_head: bool
    """Its method is HEAD: the answer has no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFrame:
    """A plain answer, or an interim one, behind which another follows."""

    length: int
    """Of head and body, in bytes."""
    is_interim: bool = False


def frame_request(head: Head, message: bytes) -> RequestFrame | Handover:
    """Of the request that `message`, one send() of the client's, begins with; FRAMING or PIPELINED: the relay's."""
    body = _read_length(head, message)
    if not _stays_open(head, message) or body is None or body > LIMITS["REQUEST_BODY_BYTES"]:
        return Handover.FRAMING
    length = head.length + body
    if len(message) > length:
        return Handover.PIPELINED
    return RequestFrame(length=length, is_head=_values(head, message, Field.METHOD) == [b"HEAD"])


def frame_answer(head: Head, received: bytes, *, is_head: bool) -> AnswerFrame | None:
    """Of the answer that `received` begins with, `is_head`: to HEAD. None: it is not plain where it ends."""
    (code, *others) = _values(head, received, Field.STATUS) or [b""]
    status = None if others else _read_number(code)
    if status is None or not _stays_open(head, received) or _values(head, received, Field.TRANSFER_ENCODING):
        return None
    if status < 200:
        return AnswerFrame(length=head.length, is_interim=True) if status >= 100 and status != 101 else None
    body = _read_length(head, received)
    if body is None:
        return None
    if is_head or status in _BODILESS:
        return AnswerFrame(length=head.length)
    if not _values(head, received, Field.CONTENT_LENGTH) or body > LIMITS["ANSWER_BODY_BYTES"]:
        return None
    return AnswerFrame(length=head.length + body)


def _values(head: Head, received: bytes, number: Field) -> list[bytes]:
    return [received[start : start + length] for field, start, length in head.fields if field == number]


def _stays_open(head: Head, received: bytes) -> bool:
    """Whether the connection is as before behind this message."""
    values = _values(head, received, Field.CONNECTION)
    return not values or [value.lower() for value in values] == [b"keep-alive"]


def _read_length(head: Head, received: bytes) -> int | None:
    """By Content-Length, 0 without one; None when that is not plain."""
    values = _values(head, received, Field.CONTENT_LENGTH)
    return 0 if not values else _read_number(values[0]) if len(values) == 1 else None


def _read_number(value: bytes) -> int | None:
    """A decimal number, leading zeros and all; None for anything else."""
    return int(value) if 0 < len(value) <= _NUMBER_DIGITS and _DIGITS.issuperset(value) else None
