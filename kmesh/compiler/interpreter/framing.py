"""Where requests and answers end, from the fields of a head that was read: what is plain is the kernel's to carry.

Step for step as the programs decide (docs/decisions/0009-streams.md), after read_head and, for a request, the match:

1. *Connection*: absent, or once and `keep-alive` or `close` in any case. (Transfer-Encoding, Expect and Upgrade end a
   request at the head automaton.)
2. *Transfer-Encoding* of an answer: absent, or once and `chunked` in any case, without Content-Length.
3. *Status* of an answer: below 200 it is an interim one, without a body, whatever its Content-Length says; 101 and
   numbers below 100 are not plain, nor are interim answers that are chunked or close, nor 204 that is chunked.
4. *Content-Length*: absent, or once and of 1 to KM_NUMBER_DIGITS digits. A request without it has no body; an answer
   must have it or be chunked, unless the request was HEAD or the status says that no body follows.
5. *Bounds*: KM_MAX_REQUEST_BODY_BYTES and KM_MAX_ANSWER_BODY_BYTES, of a body that follows.
6. *Bytes at hand*: a message to the kernel ends where its request does, or before.
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
    closes: bool = False
    """It asks that the connection end behind its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFrame:
    """A plain answer, or an interim one, behind which another follows."""

    length: int | None
    """Of head and body, in bytes; None for a chunked body."""
    is_interim: bool = False
    closes: bool = False
    """The connection ends behind it."""


def frame_request(head: Head, message: bytes) -> RequestFrame | Handover:
    """Of the request that `message`, one send() of the client's, begins with; FRAMING or PIPELINED: the relay's."""
    body, closes = _read_length(head, message), _closes(head, message)
    if closes is None or body is None or body > LIMITS["REQUEST_BODY_BYTES"]:
        return Handover.FRAMING
    length = head.length + body
    if len(message) > length:
        return Handover.PIPELINED
    return RequestFrame(length=length, is_head=_values(head, message, Field.METHOD) == [b"HEAD"], closes=closes)


def frame_answer(head: Head, received: bytes, *, is_head: bool) -> AnswerFrame | None:
    """Of the answer that `received` begins with, `is_head`: to HEAD. None: it is not plain where it ends."""
    (code, *others) = _values(head, received, Field.STATUS) or [b""]
    status = None if others else _read_number(code)
    closes, is_chunked = _closes(head, received), _is_chunked(head, received)
    if status is None or closes is None or is_chunked is None:
        return None
    if status < 200:
        is_plain = status >= 100 and status != 101 and not is_chunked and not closes
        return AnswerFrame(length=head.length, is_interim=True) if is_plain else None
    body = _read_length(head, received)
    if body is None:
        return None
    if is_head or status in _BODILESS:
        return None if is_chunked and status == 204 else AnswerFrame(length=head.length, closes=closes)
    if is_chunked:
        return AnswerFrame(length=None, closes=closes)
    if not _values(head, received, Field.CONTENT_LENGTH) or body > LIMITS["ANSWER_BODY_BYTES"]:
        return None
    return AnswerFrame(length=head.length + body, closes=closes)


def _values(head: Head, received: bytes, number: Field) -> list[bytes]:
    return [received[start : start + length] for field, start, length in head.fields if field == number]


def _closes(head: Head, received: bytes) -> bool | None:
    """Whether the connection is to end behind this message; None when that is not plain."""
    values = [value.lower() for value in _values(head, received, Field.CONNECTION)]
    return False if not values or values == [b"keep-alive"] else True if values == [b"close"] else None


def _is_chunked(head: Head, received: bytes) -> bool | None:
    """None for any other coding, and where there is a Content-Length too."""
    values = [value.lower() for value in _values(head, received, Field.TRANSFER_ENCODING)]
    if not values:
        return False
    return True if values == [b"chunked"] and not _values(head, received, Field.CONTENT_LENGTH) else None


def _read_length(head: Head, received: bytes) -> int | None:
    """By Content-Length, 0 without one; None when that is not plain."""
    values = _values(head, received, Field.CONTENT_LENGTH)
    return 0 if not values else _read_number(values[0]) if len(values) == 1 else None


def _read_number(value: bytes) -> int | None:
    """A decimal number, leading zeros and all; None for anything else."""
    return int(value) if 0 < len(value) <= _NUMBER_DIGITS and _DIGITS.issuperset(value) else None
