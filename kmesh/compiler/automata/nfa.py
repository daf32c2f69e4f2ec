"""Thompson's construction: a syntax tree to a nondeterministic automaton over bytes.

Two kinds of edges: a step consumes one byte of a range; a jump consumes none, and may ask that an assertion holds
where it is taken. Each construct adds a number of states linear in its size; a counted repetition is written out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.utf8 import ByteRanges, encode_ranges
from kmesh.regex.syntax import (
    Alternatives,
    AnyByte,
    Assertion,
    Characters,
    Concatenation,
    Node,
    Repeat,
)

__all__ = ["Nfa"]


class Nfa:
    """Of one regex: from `start`, reading all of the subject, to `end`."""

    __slots__ = ("budget", "end", "jumps", "start", "steps")

    def __init__(self, regex: Node, budget: Budget) -> None:
        """Raises: BoundExceeded when it takes too many states."""
        self.budget = budget
        self.steps: list[list[tuple[int, int, int]]] = []
        """Of each state: (first byte, last byte, target)."""
        self.jumps: list[list[tuple[Assertion | None, int]]] = []
        """Of each state: what must hold, None for nothing, and the target."""
        self.start = self._new_state()
        self.end = self._add(regex, self.start)

    def _new_state(self) -> int:
        self.steps.append([])
        self.jumps.append([])
        self.budget.check("nfa_states", len(self.steps))
        self.budget.spend(1)
        return len(self.steps) - 1

    def _add(self, node: Node, source: int) -> int:
        """Add paths for `node` that leave from `source`; the state where all of them end."""
        match node:
            case Characters(ranges):
                return self._add_characters(encode_ranges(ranges), source)
            case AnyByte():
                return self._add_characters([((0, 0xFF),)], source)
            case Assertion():
                target = self._new_state()
                self.jumps[source].append((node, target))
                return target
            case Concatenation(nodes=nodes):
                for part in nodes:
                    source = self._add(part, source)
                return source
            case Alternatives(nodes=nodes):
                return self._join([self._add(part, self._fork(source)) for part in nodes])
            case Repeat():
                return self._add_repeat(node, source)
            case _:
                assert_never(node)

    def _add_characters(self, sequences: Iterable[ByteRanges], source: int) -> int:
        """Sequences that end alike share the states of that end, as nearly all UTF-8 ones do."""
        target = self._new_state()
        state_before: dict[ByteRanges, int] = {(): target}
        for sequence in sequences:
            self.budget.spend(1)
            for cut in range(len(sequence) - 1, 0, -1):
                if sequence[cut:] not in state_before:
                    state = state_before[sequence[cut:]] = self._new_state()
                    self.steps[state].append((*sequence[cut], state_before[sequence[cut + 1 :]]))
            self.steps[source].append((*sequence[0], state_before[sequence[1:]]))
        return target

    def _add_repeat(self, repeat: Repeat, source: int) -> int:
        for _ in range(repeat.at_least):
            source = self._add(repeat.node, source)
        if repeat.at_most is None:
            loop = self._fork(source)
            self.jumps[self._add(repeat.node, self._fork(loop))].append((None, loop))
            return self._fork(loop)
        ends = [source]
        for _ in range(repeat.at_most - repeat.at_least):
            source = self._add(repeat.node, self._fork(source))
            ends.append(source)
        return self._join(ends)

    def _fork(self, source: int) -> int:
        """A new state that `source` jumps to."""
        target = self._new_state()
        self.jumps[source].append((None, target))
        return target

    def _join(self, sources: list[int]) -> int:
        target = self._new_state()
        for source in sources:
            self.jumps[source].append((None, target))
        return target
