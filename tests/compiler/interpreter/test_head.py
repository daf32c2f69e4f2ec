"""What each event of a head automaton makes the reader note, on automata that fire one event for each byte."""

from __future__ import annotations

import pytest

from kmesh.compiler.interpreter.broken import Broken
from kmesh.compiler.interpreter.head import Head, HeadField, read_head
from kmesh.records.constants import LIMITS, Field, Handover, HeadEvent, Mark
from tests.support.request_tables import events_automaton

NONE, END, TARGET_END = HeadEvent.NONE, HeadEvent.HEAD_END, HeadEvent.TARGET_END
HEAD_BYTES = LIMITS["HEAD_BYTES"]
ID = 0x1122334455667788


def read(received: bytes, events: list[int], output: int = ID) -> Head | Handover:
    """Every state has the same output."""
    number, pages = events_automaton(*((event, output) for event in events))
    return read_head({key: value for _, key, value in pages}, number, received)


@pytest.mark.parametrize(
    ("received", "events", "want"),
    [
        pytest.param(b"GET ", [NONE, NONE, NONE, HeadEvent.METHOD], [(Field.METHOD, 0, 3)], id="method"),
        pytest.param(
            b"-/a?q ",
            [NONE, HeadEvent.TARGET, NONE, HeadEvent.PATH, NONE, TARGET_END],
            [(Field.PATH, 1, 2), (Field.TARGET, 1, 4)],
            id="target_with_query",
        ),
        pytest.param(
            b"-/a ",
            [NONE, HeadEvent.TARGET, NONE, TARGET_END],
            [(Field.TARGET, 1, 2), (Field.PATH, 1, 2)],
            id="target_without_query",
        ),
        pytest.param(
            b"/?q=a ",
            [HeadEvent.TARGET, HeadEvent.PATH, NONE, HeadEvent.NAME, NONE, TARGET_END + HeadEvent.VALUE_END],
            [(Field.PATH, 0, 1), (ID, 4, 1), (Field.TARGET, 0, 5)],
            id="target_ends_with_a_value",
        ),
        pytest.param(
            b"/?q= ",
            [HeadEvent.TARGET, HeadEvent.PATH, NONE, HeadEvent.NAME, TARGET_END + HeadEvent.VALUE_END],
            [(Field.PATH, 0, 1), (ID, 4, 0), (Field.TARGET, 0, 4)],
            id="target_ends_with_an_empty_value",
        ),
        pytest.param(
            b"/?q ",
            [HeadEvent.TARGET, HeadEvent.PATH, NONE, TARGET_END + HeadEvent.BARE],
            [(Field.PATH, 0, 1), (ID, 3, 0), (Field.TARGET, 0, 3)],
            id="target_ends_with_a_bare_name",
        ),
        pytest.param(b"q&", [NONE, HeadEvent.BARE], [(ID, 1, 0)], id="bare_name"),
        pytest.param(
            b"h:  a\r",
            [NONE, HeadEvent.NAME, NONE, NONE, HeadEvent.VALUE, HeadEvent.VALUE_END],
            [(ID, 4, 1)],
            id="value",
        ),
        pytest.param(b"h: \r", [NONE, HeadEvent.NAME, NONE, HeadEvent.EMPTY], [(ID, 3, 0)], id="empty_value"),
        pytest.param(
            b"h:a \t \r",
            [NONE, HeadEvent.NAME, HeadEvent.VALUE, NONE, NONE, HeadEvent.VALUE_END],
            [(ID, 2, 1)],
            id="blanks_behind_a_value",
        ),
        pytest.param(
            b"h:a" + 16 * b" " + b"\r",
            [NONE, HeadEvent.NAME, HeadEvent.VALUE, HeadEvent.VALUE_END],
            [(ID, 2, 1)],
            id="sixteen_blanks",
        ),
        pytest.param(
            b"h:a b\xff~\r",
            [NONE, HeadEvent.NAME, HeadEvent.VALUE, HeadEvent.VALUE_END],
            [(ID, 2, 5)],
            id="skips_a_value",
        ),
        pytest.param(
            b"h:a b\x7fc", [NONE, HeadEvent.SKIP, NONE, HeadEvent.BARE], [(ID, 6, 0)], id="skip_stops_at_delete"
        ),
        pytest.param(b"\r\r", [HeadEvent.SKIP, HeadEvent.BARE], [(ID, 1, 0)], id="skips_from_a_control_byte"),
    ],
)
def test_fields(received: bytes, events: list[int], want: list[tuple[int, int, int]]) -> None:
    got = read(received + b"!", [*events, END])
    assert got == Head(fields=tuple(HeadField(*row) for row in want), marks=0, length=len(received) + 1)


def test_marks_add_up() -> None:
    marks = list(Mark)
    got = read(b"x" * 7 + b"body", [*(HeadEvent.MARK + mark.bit_length() - 1 for mark in marks), END])
    assert got == Head(fields=(), marks=sum(marks), length=7)


def test_as_many_fields_as_fit() -> None:
    most = LIMITS["REQUEST_FIELDS"]
    got = read(b"x" * (most + 1), [HeadEvent.BARE] * most + [END])
    assert isinstance(got, Head) and len(got.fields) == most


VALUE = [HeadEvent.NAME, HeadEvent.VALUE, HeadEvent.VALUE_END]


@pytest.mark.parametrize(
    ("received", "events", "want"),
    [
        *(
            pytest.param(b"x", [HeadEvent.HANDOVER + reason], reason, id=reason.name)
            for reason in Handover
            if reason is not Handover.NONE
        ),
        pytest.param(b"", [], Handover.INCOMPLETE, id="nothing"),
        pytest.param(b"ab", [NONE, NONE, END], Handover.INCOMPLETE, id="ends_too_early"),
        pytest.param(b"abc", [HeadEvent.SKIP, END], Handover.INCOMPLETE, id="ends_while_it_skips"),
        pytest.param(b"a" * HEAD_BYTES, [HeadEvent.SKIP, END], Handover.HEAD_SIZE, id="no_end_within_the_bound"),
        pytest.param(
            b"a" * HEAD_BYTES + b"\r", [HeadEvent.SKIP, END], Handover.HEAD_SIZE, id="ends_behind_the_bound"
        ),
        pytest.param(
            b"a" * (HEAD_BYTES - 1), [HeadEvent.SKIP, END], Handover.INCOMPLETE, id="a_byte_below_the_bound"
        ),
        pytest.param(b":a" + b" " * 17 + b"\r", VALUE, Handover.MALFORMED, id="seventeen_blanks"),
        pytest.param(b"x" * 25, [HeadEvent.BARE] * 25, Handover.FIELDS, id="one_field_more"),
        pytest.param(b"x" * 24, [HeadEvent.BARE] * 23 + [TARGET_END], Handover.FIELDS, id="the_target_counts_twice"),
    ],
)
def test_handovers(received: bytes, events: list[int], want: Handover) -> None:
    assert read(received, events) == want


def test_a_head_may_fill_the_bound() -> None:
    got = read(b"a" * (HEAD_BYTES - 1) + b"\r" + b"body", [HeadEvent.SKIP, END])
    assert got == Head(fields=(), marks=0, length=HEAD_BYTES)


@pytest.mark.parametrize(
    "event",
    [
        *(11, 15, TARGET_END + 11, TARGET_END + HeadEvent.MARK, HeadEvent.FINAL, HeadEvent.FINAL + TARGET_END, 127),
        *(HeadEvent.HANDOVER, HeadEvent.HANDOVER + max(Handover) + 1, 255),
    ],
)
def test_an_event_that_is_none_is_broken(event: int) -> None:
    with pytest.raises(Broken):
        read(b"xx", [event, END])


def test_missing_pages_are_broken() -> None:
    with pytest.raises(Broken):
        read_head({}, 1, b"GET / HTTP/1.1\r\n\r\n")
