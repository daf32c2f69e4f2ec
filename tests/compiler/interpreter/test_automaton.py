"""The runner of pages, on pages made by hand."""

from __future__ import annotations

import pytest

from kmesh.compiler.interpreter.automaton import read_output, run_automaton, step
from kmesh.compiler.interpreter.broken import Broken
from kmesh.records.constants import DEAD_STATE, EVENT_SHIFT, LIMITS, HeadEvent, SlotFlag
from kmesh.records.layout import PAGE, PAGE_KEY, SLOT

LAST = LIMITS["PAGE_SLOTS"] - 1
OUTPUT = 0x1122334455667788
CLASSES = bytes(1 if byte == ord("a") else 2 if byte == ord("b") else 0 for byte in range(256))
FINAL = HeadEvent.FINAL << EVENT_SHIFT


def page(slots: dict[int, tuple[int, int]]) -> bytes:
    return PAGE.pack(CLASSES, b"".join(SLOT.pack(*slots.get(slot, (0, 0))) for slot in range(LAST + 1)))


# State 0: a -> 10, b -> the first state of page 1, else dead. State 10, with an output: a -> itself, else 20.
# State 20, with an output, is final. On page 1: state 0 of it leads to its last state, by a to one without a page.
PAGES = {
    PAGE_KEY.pack(7, 0): page(
        {
            0: (0, DEAD_STATE),
            4: (SlotFlag.ROW | 0, 10),
            5: (SlotFlag.ROW | 0, LAST + 1),
            10: (SlotFlag.OUTPUT, 20 | FINAL),
            11: (0, OUTPUT & 0xFFFFFFFF),
            12: (0, OUTPUT >> 32),
            14: (SlotFlag.ROW | 10, 10),
            20: (SlotFlag.OUTPUT, DEAD_STATE),
            21: (0, 5),
        }
    ),
    PAGE_KEY.pack(7, 1): page(
        {
            0: (0, 2 * LAST + 1),
            4: (SlotFlag.ROW | LAST + 1, 2 * LAST + 2),
            5: (SlotFlag.ROW | 0, 1),  # of state 0 of page 0, were it there
            LAST: (0, LAST + 1),
        }
    ),
}


@pytest.mark.parametrize(
    ("subject", "want"),
    [
        (b"", 0),
        (b"x", 0),
        (b"a", OUTPUT),
        (b"aa", OUTPUT),
        (b"aab", 5),
        (b"aabaaa", 5),
        (b"xa", 0),
        (b"b", 0),
        (b"bbab", 0),
    ],
)
def test_run(subject: bytes, want: int) -> None:
    assert run_automaton(PAGES, 7, subject) == want


def test_no_automaton_has_no_output() -> None:
    assert run_automaton({}, 0, b"a") == 0


def test_step() -> None:
    first = step(PAGES, 7, 0, ord("a"))
    assert (first.state, first.event, first.output) == (10, 0, 0)
    left = step(PAGES, 7, 10, ord("b"))
    assert (left.state, left.event, left.output) == (20, HeadEvent.FINAL, OUTPUT)
    assert read_output(PAGES, 7, 10) == OUTPUT


@pytest.mark.parametrize("slot", [LAST - 1, LAST])
def test_an_output_that_is_not_on_the_page_is_broken(slot: int) -> None:
    pages = {PAGE_KEY.pack(7, 0): page({slot: (SlotFlag.OUTPUT, 0)})}
    with pytest.raises(Broken):
        read_output(pages, 7, slot)


def test_an_output_that_no_one_asks_for_may_be_broken() -> None:
    pages = {PAGE_KEY.pack(7, 0): page({LAST: (SlotFlag.OUTPUT, 5)})}
    assert step(pages, 7, LAST, 0).state == 5


def test_a_missing_page_is_broken() -> None:
    with pytest.raises(Broken):
        run_automaton(PAGES, 7, b"baa")
    with pytest.raises(Broken):
        run_automaton(PAGES, 8, b"")
