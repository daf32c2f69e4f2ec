"""Reading the head of a request: the head automaton is stepped over its bytes, and its events say what to note.

What is read is a list of fields, the marks of the path, and where the head ends. A field that is empty starts at the
byte behind it. After VALUE and SKIP reading goes on at the next control byte, whatever the automaton would have done
until there. An event that HeadEvent does not name makes the automaton unsound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from kmesh.compiler.interpreter.automaton import Pages, Step, step
from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.handed_over import HandedOver, read_reason
from kmesh.records.constants import LIMITS, Field, Handover, HeadEvent

__all__ = ["Head", "HeadField", "read_head"]

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class HeadField(NamedTuple):
    id: int
    start: int
    """In the head, in bytes; so is `length`."""
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    fields: tuple[HeadField, ...]
    """In the order in which they were recorded."""
    marks: int
    """Mark."""
    length: int
    """With the empty line at its end; what follows is body."""


def read_head(pages: Pages, automaton: int, received: bytes) -> Head | Handover:
    """What the head at the start of `received` holds, or why it is the relay's. Raises: Broken."""
    reading = _Reading(received=received[: LIMITS["HEAD_BYTES"]])
    state = 0
    try:
        while reading.position < len(reading.received):
            taken = step(pages, automaton, state, reading.received[reading.position])
            event = taken.event
            if event:
                _note(reading, event, taken)
            if event == HeadEvent.HEAD_END:
                return Head(fields=tuple(reading.fields), marks=reading.marks, length=reading.position + 1)
            state = taken.state
            reading.position = _find_next(reading, event)
    except HandedOver as why:
        return why.reason
    return Handover.HEAD_SIZE if len(received) >= LIMITS["HEAD_BYTES"] else Handover.INCOMPLETE


@dataclass(slots=True, kw_only=True)
class _Reading:
    """How far one head is read."""

    received: bytes
    position: int = 0
    fields: list[HeadField] = field(default_factory=list)
    marks: int = 0
    name: int = 0
    """Id of the field that was named last."""
    value: int = 0
    """Where its value starts."""
    target: int = 0
    """Where the target starts."""
    has_path: bool = False


def _find_next(reading: _Reading, event: int) -> int:
    """The next byte that the automaton must see."""
    behind = reading.position + 1
    if event not in (HeadEvent.VALUE, HeadEvent.SKIP):
        return behind
    control = _CONTROL.search(reading.received, behind)
    return control.start() if control else len(reading.received)


def _note(reading: _Reading, event: int, taken: Step) -> None:
    """Marks have no use for an output; with all else it must be sound. Raises: HandedOver, Broken."""
    if HeadEvent.MARK <= event < HeadEvent.TARGET_END:
        reading.marks |= 1 << event - HeadEvent.MARK
        return
    output = taken.output
    if event >= HeadEvent.HANDOVER:
        raise HandedOver(read_reason(event - HeadEvent.HANDOVER))
    _note_field(reading, event & ~HeadEvent.TARGET_END, output)
    if event & HeadEvent.TARGET_END:
        _end_target(reading)


def _end_target(reading: _Reading) -> None:
    _record(reading, Field.TARGET, reading.target, reading.position)
    if not reading.has_path:
        _record(reading, Field.PATH, reading.target, reading.position)


def _note_field(reading: _Reading, event: int, output: int) -> None:
    """Raises: HandedOver; Broken for an event that is none."""
    position = reading.position
    match event:
        case HeadEvent.METHOD:
            _record(reading, Field.METHOD, 0, position)
        case HeadEvent.TARGET:
            reading.target = position
        case HeadEvent.PATH:
            reading.has_path = True
            _record(reading, Field.PATH, reading.target, position)
        case HeadEvent.NAME:
            reading.name, reading.value = output, position + 1
        case HeadEvent.VALUE:
            reading.value = position
        case HeadEvent.VALUE_END:
            _record(reading, reading.name, reading.value, _cut_trailing(reading))
        case HeadEvent.EMPTY:
            _record(reading, reading.name, position, position)
        case HeadEvent.BARE:
            _record(reading, output, position, position)
        case HeadEvent.NONE | HeadEvent.SKIP | HeadEvent.HEAD_END:
            pass  # NONE behind TARGET_END
        case _:
            raise Broken(f"event {event} in the head automaton")


def _cut_trailing(reading: _Reading) -> int:
    """Where the value ends that `position` is behind."""
    value = reading.received[reading.value : reading.position]
    kept = value.rstrip(b" \t")
    if len(value) - len(kept) > LIMITS["BLANKS"]:
        raise HandedOver(Handover.MALFORMED)
    return reading.value + len(kept)


def _record(reading: _Reading, number: int, start: int, end: int) -> None:
    if len(reading.fields) == LIMITS["REQUEST_FIELDS"]:
        raise HandedOver(Handover.FIELDS)
    reading.fields.append(HeadField(int(number), start, end - start))
