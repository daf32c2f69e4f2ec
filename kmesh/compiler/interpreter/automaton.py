"""Automata as the kernel runs them: one step over one byte, from pages.

A step reads the header of the state and the slot of the byte's class. That slot is the state's own transition when it
is on the page and its check says so; else the header's word is taken. Two slots more may hold the state's output,
which is read only when it is asked for: an unsound one harms no one else.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from kmesh.compiler.interpreter.broken import Broken
from kmesh.records.constants import BEHIND_OUTPUT, DEAD_STATE, EVENT_SHIFT, LIMITS, HeadEvent, SlotFlag
from kmesh.records.layout import PAGE, PAGE_KEY, SLOT

__all__ = ["Pages", "Step", "read_output", "run_automaton", "step"]

Pages = Mapping[bytes, bytes]
"""The table of MapName.PAGE."""

_SLOTS = LIMITS["PAGE_SLOTS"]
_FIRST = PAGE.offset("slots")
_SLOT: Struct = SLOT.struct
_ROW, _OUTPUT = int(SlotFlag.ROW), int(SlotFlag.OUTPUT)  # flags made by | would be objects, for each byte


class Step(NamedTuple):
    """What one byte does."""

    word: int
    """Of the transition that was taken."""
    page: bytes
    """Of the state that was left; `header` is its slot."""
    header: int

    @property
    def state(self) -> int:
        """The next one, or DEAD_STATE."""
        return self.word & DEAD_STATE

    @property
    def event(self) -> int:
        """HeadEvent, and what is added to it."""
        return self.word >> EVENT_SHIFT

    @property
    def output(self) -> int:
        """Of the state that was left. Raises: Broken."""
        return _output(self.page, self.header)


def run_automaton(pages: Pages, automaton: int, subject: bytes) -> int:
    """The output for `subject`; that of automaton 0, which is none, is 0. Raises: Broken."""
    if not automaton:
        return 0
    state = 0
    for byte in subject:
        taken = step(pages, automaton, state, byte)
        state = taken.state
        if state == DEAD_STATE:
            return 0
        if taken.event == HeadEvent.FINAL:
            break
    return read_output(pages, automaton, state)


def step(pages: Pages, automaton: int, state: int, byte: int) -> Step:
    """From `state`, which is not DEAD_STATE, over `byte`. Raises: Broken."""
    page, header = _find(pages, automaton, state)
    word = _read(page, header)[1]
    slot = header + BEHIND_OUTPUT + page[byte]
    if slot < _SLOTS:
        check, own = _read(page, slot)
        if check == _ROW | state:
            word = own
    return Step(word, page, header)


def read_output(pages: Pages, automaton: int, state: int) -> int:
    """Of a state where nothing follows. Raises: Broken."""
    return _output(*_find(pages, automaton, state))


def _find(pages: Pages, automaton: int, state: int) -> tuple[bytes, int]:
    """The page of a state, and the slot of its header."""
    number, header = divmod(state, _SLOTS)
    page = pages.get(PAGE_KEY.struct.pack(automaton, number, 0))
    if page is None:
        raise Broken(f"no page {number} of automaton {automaton:#x}")
    return page, header


def _output(page: bytes, header: int) -> int:
    if not _read(page, header)[0] & _OUTPUT:
        return 0
    return _read(page, header + 1)[1] | _read(page, header + 2)[1] << 32


def _read(page: bytes, slot: int) -> tuple[int, int]:
    """(check, word)."""
    if slot >= _SLOTS:
        raise Broken(f"slot {slot} is not on the page")
    check, word = _SLOT.unpack_from(page, _FIRST + slot * _SLOT.size)
    return check, word
