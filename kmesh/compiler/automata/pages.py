"""A machine as pages of slots, which the kernel reads.

A state takes a header slot, two for its output if it has one, and one for each exception of its row, as far behind
the header as the class says. The slots between are free for other states (row displacement):

    slot    0    1    2    3    4    5    6    7          state 0: exceptions for the classes 0 and 2
            h0   h4        0:0  h4'  0:2       4:0        state 1, now called 4: an exception for the class 0

States are named by where they lie, so a walk reads one page until it comes to a state of another. To make that rare,
a page takes what lies nearest below a root, breadth first; what finds no room is the root of a later page, which goes
on with further roots once it has all that is below the first. A machine names states that begin a page in any case.

Classes are a page's own: bytes that none of its states tells apart are one class there, so that a state which refuses
half of all bytes needs one slot for them. The most frequent exceptions have the lowest classes, which makes states
short.

Neither the numbers of states nor those of classes show in the pages, only what leads where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct

from kmesh.compiler.automata.bounds import BoundExceeded, Budget
from kmesh.compiler.automata.machine import Machine
from kmesh.records.constants import BEHIND_OUTPUT, DEAD_STATE, LIMITS, SlotFlag
from kmesh.records.digest import content_id
from kmesh.records.layout import PAGE, PAGE_KEY

__all__ = ["Packed", "pack_pages"]

_SLOTS = LIMITS["PAGE_SLOTS"]
assert BEHIND_OUTPUT + 256 <= _SLOTS, "any state fits an empty page"
_MAX_PAGES = DEAD_STATE // _SLOTS
_ENOUGH = _SLOTS * 5 // 4
"""Slots that states would take if they left no gaps: of so many, enough fit a page to fill it well."""
_WORK_OF_A_PAGE = 150
"""Steps, beside two for each slot."""
_NOWHERE = -1
_ROW, _OUTPUT = int(SlotFlag.ROW), int(SlotFlag.OUTPUT)
_WORDS = Struct(f"<{2 * _SLOTS}I")
_U32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    automaton: int
    """By content of all pages, in order."""
    records: tuple[tuple[bytes, bytes], ...]
    """(key, value) of MapName.PAGE."""


def pack_pages(machine: Machine, budget: Budget | None = None) -> Packed:
    """Raises: BoundExceeded."""
    layout = _Layout(machine, budget or Budget())
    layout.fill_pages()
    values = [PAGE.pack(page.classes, layout.pack_slots(page)) for page in layout.pages]
    automaton = content_id(b"".join(values))
    return Packed(
        automaton=automaton,
        records=tuple((PAGE_KEY.pack(automaton, number), value) for number, value in enumerate(values)),
    )


@dataclass(slots=True, kw_only=True)
class _Page:
    classes: bytes
    """256 of them."""
    numbers: Sequence[int]
    """Of each class of the machine, the page's."""
    free: int = (1 << _SLOTS) - 1
    """Bit n is set when slot n is."""
    states: list[int] = field(default_factory=list)

    def exceptions(self, row: Mapping[int, int]) -> dict[int, int]:
        """Of a state of this page, in the classes of the machine -> in its own."""
        return {self.numbers[byte_class]: word for byte_class, word in row.items()}

    def take(self, offsets: Sequence[int]) -> int:
        """The first slot from which all `offsets` are free, which now they are not; _NOWHERE if there is none."""
        fits = self.free
        for offset in offsets:
            fits &= self.free >> offset
            if not fits:
                return _NOWHERE
        slot = (fits & -fits).bit_length() - 1
        self.free ^= sum(1 << slot + offset for offset in offsets)
        return slot


class _Layout:
    """Which states lie on which page, and where."""

    def __init__(self, machine: Machine, budget: Budget) -> None:
        self.budget = budget
        self.classes = machine.classes
        self.rows = machine.rows
        self.outputs = machine.outputs
        self.entries = machine.entries
        self.first_bytes = {byte_class: machine.classes.index(byte_class) for byte_class in set(machine.classes)}
        self.places = [_NOWHERE] * len(machine.rows)
        """Of each state, its number in the pages."""
        self.pages: list[_Page] = []

    def fill_pages(self) -> None:
        """Raises: BoundExceeded."""
        roots = deque((0,))
        while roots:
            taken, near = self.gather(roots)
            if near:  # else these roots lay below others
                roots.extend(self.place(taken, near))
            if len(self.pages) > _MAX_PAGES:
                raise BoundExceeded("pages", len(self.pages), _MAX_PAGES)

    def gather(self, roots: deque[int]) -> tuple[list[int], dict[int, Sequence[int]]]:
        """Takes the first roots, and what lies nearest below, about as much as fits a page: state -> its targets."""
        taken: list[int] = []
        near: dict[int, Sequence[int]] = {}
        size = 0
        while roots and size < _ENOUGH:
            taken.append(roots.popleft())
            queue = taken[-1:]
            for state in queue:  # grows meanwhile
                if size >= _ENOUGH:
                    break
                if self.places[state] != _NOWHERE or state in near or (near and state in self.entries):
                    continue
                near[state] = self.targets(state)
                queue.extend(near[state])
                size += 1 + 2 * bool(self.outputs[state]) + len(set(self.rows[state].exceptions.values()))
        self.budget.spend(_WORK_OF_A_PAGE + 2 * size)
        return taken, near

    def targets(self, state: int) -> list[int]:
        """In the order of bytes, `otherwise` last."""
        row = self.rows[state]
        in_order = sorted(row.exceptions, key=self.first_bytes.__getitem__)
        words = (*(row.exceptions[byte_class] for byte_class in in_order), row.otherwise)
        return [word & DEAD_STATE for word in words if word & DEAD_STATE != DEAD_STATE]

    def place(self, roots: Iterable[int], near: Mapping[int, Sequence[int]]) -> list[int]:
        """Makes a page of what fits of `near`; what it leads to, and has no place yet."""
        page = self.make_page(near)
        reached = dict.fromkeys(roots)
        for state, targets in near.items():
            slot = page.take(self.offsets(page, state)) if state in reached else _NOWHERE
            if slot != _NOWHERE:
                self.places[state] = len(self.pages) * _SLOTS + slot
                page.states.append(state)
                reached.update(dict.fromkeys(targets))
        self.pages.append(page)
        return [state for state in reached if self.places[state] == _NOWHERE]

    def make_page(self, states: Iterable[int]) -> _Page:
        """An empty one whose classes tell apart what `states` do."""
        uses: dict[int, list[int]] = {byte_class: [] for byte_class in self.first_bytes}
        for state in states:
            for byte_class, word in self.rows[state].exceptions.items():
                uses[byte_class] += (state, word)
        same = dict.fromkeys(tuple(uses[byte_class]) for byte_class in self.classes)
        order = {use: number for number, use in enumerate(sorted(same, key=len, reverse=True))}
        numbers = [0] * 256
        for byte_class, use in uses.items():
            numbers[byte_class] = order[tuple(use)]
        return _Page(classes=self.classes.translate(bytes(numbers)), numbers=numbers)

    def offsets(self, page: _Page, state: int) -> list[int]:
        """Of the slots that a state takes, from its header's."""
        output = (1, 2) if self.outputs[state] else ()
        exceptions = page.exceptions(self.rows[state].exceptions)
        return [0, *output, *(BEHIND_OUTPUT + byte_class for byte_class in exceptions)]

    def pack_slots(self, page: _Page) -> bytes:
        words = [0] * (2 * _SLOTS)  # (check, word) of each slot
        for state in page.states:
            place, row, output = self.places[state], self.rows[state], self.outputs[state]
            at = 2 * (place % _SLOTS)
            words[at + 1] = self.relocate(row.otherwise)
            if output:
                words[at] = _OUTPUT
                words[at + 3], words[at + 5] = output & _U32, output >> 32
            at += 2 * BEHIND_OUTPUT
            for byte_class, word in page.exceptions(row.exceptions).items():
                words[at + 2 * byte_class] = _ROW | place
                words[at + 2 * byte_class + 1] = self.relocate(word)
        return _WORDS.pack(*words)

    def relocate(self, word: int) -> int:
        """The same transition, between the states as they are numbered in the pages."""
        state = word & DEAD_STATE
        return word if state == DEAD_STATE else word - state + self.places[state]
