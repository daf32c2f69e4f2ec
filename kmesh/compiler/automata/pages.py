"""A machine as pages of slots, which the kernel reads.

A state takes a header slot, two for its output if it has one, and one for each exception of its row, as far behind
the header as the class says. The slots between are free for other states (row displacement):

    slot    0    1    2    3    4    5    6    7          state 0: exceptions for the classes 0 and 2
            h0   h4        0:0  h4'  0:2       4:0        state 1, now called 4: an exception for the class 0

States are named by where they lie, so a walk reads one page until it comes to a state of another. To make that rare,
a page takes what lies nearest below a root, breadth first; what finds no room is the root of a later page, which goes
on with further roots once it has all that is below the first. The classes that are exceptions most often have the
lowest numbers, so that most states are short and fit into the gaps.

Neither the numbers of states nor those of classes show in the pages, only what leads where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct

from kmesh.compiler.automata.bounds import AutomatonTooLarge
from kmesh.compiler.automata.dfa import Row
from kmesh.compiler.automata.machine import Machine
from kmesh.records.constants import DEAD_STATE, LIMITS, SlotFlag
from kmesh.records.digest import content_id
from kmesh.records.layout import PAGE, PAGE_KEY

__all__ = ["Packed", "pack_pages"]

_SLOTS = LIMITS["PAGE_SLOTS"]
_BEHIND_OUTPUT = 3
assert _BEHIND_OUTPUT + 256 <= _SLOTS, "any state fits an empty page"
_MAX_PAGES = DEAD_STATE // _SLOTS
_FULL = _SLOTS // 16
"""A page with no more free slots than this begins no further root."""
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


def pack_pages(machine: Machine) -> Packed:
    """Raises: AutomatonTooLarge."""
    classes, rows = _number_classes(machine)
    layout = _Layout(rows, machine.outputs)
    layout.fill_pages()
    pages = [PAGE.pack(classes, layout.pack_page(states)) for states in layout.pages]
    automaton = content_id(b"".join(pages))
    return Packed(
        automaton=automaton,
        records=tuple((PAGE_KEY.pack(automaton, number), page) for number, page in enumerate(pages)),
    )


def _number_classes(machine: Machine) -> tuple[bytes, list[Row]]:
    """The more rows a class is an exception of, the lower its number; those that are of none become one.

    Exceptions come in order."""
    uses = dict.fromkeys(machine.classes, 0)  # in the order of bytes, as is the sort among equals
    for row in machine.rows:
        for byte_class in row.exceptions:
            uses[byte_class] += 1
    by_use = sorted((byte_class for byte_class in uses if uses[byte_class]), key=uses.__getitem__, reverse=True)
    numbers = {byte_class: number for number, byte_class in enumerate(by_use)}
    classes = bytes(numbers.get(byte_class, len(by_use)) for byte_class in machine.classes)
    return classes, [
        Row(row.otherwise, dict(sorted((numbers[byte_class], word) for byte_class, word in row.exceptions.items())))
        for row in machine.rows
    ]


@dataclass(slots=True)
class _Page:
    """One that is being filled."""

    free: int = (1 << _SLOTS) - 1
    """Bit n is set when slot n is."""
    states: list[int] = field(default_factory=list)
    left: dict[int, None] = field(default_factory=dict)
    """The states that did not fit, each once, in order."""

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

    def __init__(self, rows: Sequence[Row], outputs: Sequence[int]) -> None:
        self.rows = rows
        self.outputs = outputs
        self.places = [_NOWHERE] * len(rows)
        """Of each state, its number in the pages."""
        self.pages: list[list[int]] = []
        """The states on each."""

    def fill_pages(self) -> None:
        """Raises: AutomatonTooLarge."""
        roots = deque((0,))
        while roots:
            states = self.fill_page(roots)
            if states:  # else all of them lay below other roots
                self.pages.append(states)
            if len(self.pages) > _MAX_PAGES:
                raise AutomatonTooLarge("pages", len(self.pages), _MAX_PAGES)

    def fill_page(self, roots: deque[int]) -> list[int]:
        """The states of the next page: of the first roots and below. Those that do not fit become roots."""
        page = _Page()
        while roots and page.free.bit_count() > _FULL:
            root = roots.popleft()
            self.place_below(root, page)
            if root in page.left:
                break  # or each page would try all roots that there are
        roots.extend(page.left)
        return page.states

    def place_below(self, root: int, page: _Page) -> None:
        queue = [root]
        for state in queue:  # grows meanwhile
            if self.places[state] != _NOWHERE or state in page.left:
                continue
            slot = page.take(self.offsets(state))
            if slot == _NOWHERE:
                page.left[state] = None
                continue
            self.places[state] = len(self.pages) * _SLOTS + slot
            page.states.append(state)
            queue.extend(self.targets(state))

    def offsets(self, state: int) -> list[int]:
        """Of the slots that a state takes, from its header's."""
        output = (1, 2) if self.outputs[state] else ()
        return [0, *output, *(_BEHIND_OUTPUT + byte_class for byte_class in self.rows[state].exceptions)]

    def targets(self, state: int) -> Iterator[int]:
        row = self.rows[state]
        for word in (*row.exceptions.values(), row.otherwise):
            if word & DEAD_STATE != DEAD_STATE:
                yield word & DEAD_STATE

    def pack_page(self, states: Iterable[int]) -> bytes:
        words = [0] * (2 * _SLOTS)  # (check, word) of each slot
        for state in states:
            place, row, output = self.places[state], self.rows[state], self.outputs[state]
            at = 2 * (place % _SLOTS)
            words[at + 1] = self.relocate(row.otherwise)
            if output:
                words[at] = _OUTPUT
                words[at + 3], words[at + 5] = output & _U32, output >> 32
            at += 2 * _BEHIND_OUTPUT
            for byte_class, word in row.exceptions.items():
                words[at + 2 * byte_class] = _ROW | place
                words[at + 2 * byte_class + 1] = self.relocate(word)
        return _WORDS.pack(*words)

    def relocate(self, word: int) -> int:
        """The same transition, between the states as they are numbered in the pages."""
        state = word & DEAD_STATE
        return word if state == DEAD_STATE else word - state + self.places[state]
