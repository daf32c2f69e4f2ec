r"""Subset construction: a nondeterministic automaton to a deterministic one that accepts the same.

A state of the result is the set of NFA states that the bytes so far can have led to. An assertion asks about the
bytes on either side of it, of which the right one is not yet known when a state is entered. So a set is closed under
free jumps only; what the last byte was, as far as any assertion can ask, is part of the state; and conditional
jumps are taken when the next byte, or the end, is known, just before its steps:

    \bx   after "-": {0}, previous OTHER   next "x" is WORD: the jump is open, its step taken
                                           next "-" is OTHER: it is not, nothing is left
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple, assert_never

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.classes import make_classes
from kmesh.compiler.automata.dfa import DEAD
from kmesh.compiler.automata.nfa import Nfa
from kmesh.regex.named_classes import WORD_BYTES
from kmesh.regex.syntax import Assertion

__all__ = ["Dense", "determinise"]


class Dense(NamedTuple):
    """A deterministic automaton with a target, or DEAD, for every class of every state; 0 is the start."""

    classes: bytes
    targets: list[list[int]]
    vectors: list[int]


class _Side(Enum):
    """What stands beside a place in the subject, as far as assertions can tell."""

    EDGE = "start or end of the text"
    NEWLINE = "newline"
    WORD = "word byte"
    OTHER = "any other byte"


_States = frozenset[int]
_NEWLINE = 0x0A


def determinise(nfa: Nfa, budget: Budget) -> Dense:
    """Accepting states have the vector 1. Raises: BoundExceeded."""
    return _Construction(nfa, budget).run()


class _Construction:
    def __init__(self, nfa: Nfa, budget: Budget) -> None:
        self.nfa = nfa
        self.budget = budget
        self.conditional = frozenset(
            state for state, jumps in enumerate(nfa.jumps) if any(kind is not None for kind, _ in jumps)
        )
        self.classes = self.make_classes()
        self.sides = [_side_of(self.classes.index(number)) for number in range(max(self.classes) + 1)]
        self.steps = [self.steps_by_class(state) for state in range(len(nfa.steps))]
        self.closures: dict[_States, _States] = {}
        self.numbers: dict[tuple[_States, _Side], int] = {}
        """Of the states found so far."""
        self.found: list[tuple[_States, _Side]] = []

    def run(self) -> Dense:
        self.number(frozenset((self.nfa.start,)), _Side.EDGE)
        targets: list[list[int]] = []
        vectors: list[int] = []
        for states, previous in self.found:  # grows meanwhile
            targets.append(self.row(states, previous))
            vectors.append(int(self.nfa.end in self.resolve(states, previous, _Side.EDGE)))
        return Dense(self.classes, targets, vectors)

    def make_classes(self) -> bytes:
        sets = {(first, last) for steps in self.nfa.steps for first, last, _ in steps}
        members: list[Iterable[int]] = [range(first, last + 1) for first, last in sorted(sets)]
        if self.conditional:
            members += [WORD_BYTES, (_NEWLINE,)]
        self.budget.spend(16 * len(members))
        return make_classes(members)

    def steps_by_class(self, state: int) -> list[tuple[int, int]]:
        return [
            (byte_class, target)
            for first, last, target in self.nfa.steps[state]
            for byte_class in sorted(set(self.classes[first : last + 1]))
        ]

    def row(self, states: _States, previous: _Side) -> list[int]:
        """The target of each class; the states reached by it depend on the assertions that it lets hold."""
        row = [DEAD] * len(self.sides)
        for side in _Side if states & self.conditional else (None,):
            reached: dict[int, set[int]] = {}
            for state in states if side is None else self.resolve(states, previous, side):
                for byte_class, target in self.steps[state]:
                    if side is None or self.sides[byte_class] is side:
                        reached.setdefault(byte_class, set()).add(target)
            for byte_class, targets in sorted(reached.items()):
                row[byte_class] = self.number(frozenset(targets), self.sides[byte_class])
            self.budget.spend(sum(map(len, reached.values())) + 3 * len(reached))
        return row

    def number(self, reached: _States, previous: _Side) -> int:
        """Of the state after `reached` is closed. Raises: BoundExceeded when that is one too many."""
        states = self.closures.get(reached)
        if states is None:
            states = self.closures[reached] = self.close(reached, lambda _: False)
        if not states & self.conditional:
            previous = _Side.OTHER  # nothing will ask
        key = (states, previous)
        if key not in self.numbers:
            self.numbers[key] = len(self.found)
            self.found.append(key)
            self.budget.check("subset_states", len(self.found))
        return self.numbers[key]

    def resolve(self, states: _States, previous: _Side, following: _Side) -> _States:
        """`states`, and where the jumps lead that are open between these two sides."""
        if not states & self.conditional:
            return states
        return self.close(states, lambda assertion: _holds(assertion, previous, following))

    def close(self, states: _States, is_open: Callable[[Assertion], bool]) -> _States:
        """`states`, and all that free jumps and the open ones lead to."""
        closed = set(states)
        pending = list(states)
        while pending:
            for assertion, target in self.nfa.jumps[pending.pop()]:
                if target not in closed and (assertion is None or is_open(assertion)):
                    closed.add(target)
                    pending.append(target)
        self.budget.spend(2 * len(closed))
        return frozenset(closed)


def _side_of(byte: int) -> _Side:
    if byte == _NEWLINE:
        return _Side.NEWLINE
    return _Side.WORD if byte in WORD_BYTES else _Side.OTHER


def _holds(assertion: Assertion, previous: _Side, following: _Side) -> bool:
    match assertion:
        case Assertion.BEGIN_TEXT:
            return previous is _Side.EDGE
        case Assertion.END_TEXT:
            return following is _Side.EDGE
        case Assertion.BEGIN_LINE:
            return previous in (_Side.EDGE, _Side.NEWLINE)
        case Assertion.END_LINE:
            return following in (_Side.EDGE, _Side.NEWLINE)
        case Assertion.WORD_BOUNDARY:
            return (previous is _Side.WORD) != (following is _Side.WORD)
        case Assertion.NO_WORD_BOUNDARY:
            return (previous is _Side.WORD) == (following is _Side.WORD)
        case _:
            assert_never(assertion)
