"""The automaton as it is executed: transitions that say what happens on the way, states that have an output.

Like a Dfa, but a row holds words: the next state, and above it an event. What a run means by them is its own:
kmesh.compiler.interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from kmesh.compiler.automata.dfa import DEAD, Dfa, Row
from kmesh.records.constants import DEAD_STATE, EVENT_SHIFT, HeadEvent

__all__ = ["Machine", "make_machine", "make_word"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Starts in state 0."""

    classes: bytes
    """256 of them: the class of each byte."""
    rows: Sequence[Row]
    """Of each state. A target is a word: DEAD_STATE or a state, and an event."""
    outputs: Sequence[int]
    """Of each state, 64 bits; 0 for none."""
    entries: Collection[int] = ()
    """States that begin a page of their own, since a run that comes there stays below for long."""


def make_word(state: int, event: int = HeadEvent.NONE) -> int:
    return state | event << EVENT_SHIFT


def make_machine(dfa: Dfa, output_of: Callable[[int], int]) -> Machine:
    """Whose states have the output of their vector. A run ends where nothing that follows matters (FINAL)."""
    words = {DEAD: DEAD_STATE}
    for state, row in enumerate(dfa.rows):
        is_final = row.otherwise == state and not row.exceptions
        words[state] = make_word(state, HeadEvent.FINAL if is_final else HeadEvent.NONE)
    outputs = {vector: output_of(vector) for vector in dict.fromkeys(dfa.vectors)}
    return Machine(
        classes=dfa.classes,
        rows=[
            Row(words[row.otherwise], {number: words[target] for number, target in row.exceptions.items()})
            for row in dfa.rows
        ],
        outputs=[outputs[vector] for vector in dfa.vectors],
    )
