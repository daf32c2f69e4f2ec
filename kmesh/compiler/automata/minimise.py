"""Minimisation: the smallest deterministic automaton that accepts the same, in a form that depends on nothing else.

Hopcroft's algorithm. All states start in blocks of equal vectors. A block splits when a byte leads some of its states
into a given block and others not; after a split only the smaller half needs to be tried as such a block again, so
that no state is tried more than log2(states) times per class. What cannot be split any more are the states of the
smallest automaton:

    a: 1 -x-> 3, 2 -x-> 4, 3 and 4 accept   =>   {1, 2} -x-> {3, 4}

Then states are numbered in the order in which a breadth-first walk reaches them, and classes that no row tells
apart become one. Automata that accept the same are therefore equal.
"""

from __future__ import annotations

from collections.abc import Iterable

from kmesh.compiler.automata.bounds import Budget
from kmesh.compiler.automata.classes import number_by_first_use
from kmesh.compiler.automata.dfa import DEAD, Dfa, make_row
from kmesh.compiler.automata.subset import Dense

__all__ = ["minimise"]


def minimise(dense: Dense, budget: Budget) -> Dfa:
    """Raises: BoundExceeded when the budget is spent."""
    columns = _columns(dense)
    budget.spend(len(columns) * len(dense.targets))
    return _number(dense, columns, _partition(columns, dense.vectors, budget))


def _columns(dense: Dense) -> list[tuple[int, ...]]:
    """Of each class, the targets of all states, where DEAD is one more state, the last, that leads to itself."""
    dead = len(dense.targets)
    return [
        tuple(dead if target == DEAD else target for target in (*column, DEAD))
        for column in zip(*dense.targets, strict=True)
    ]


def _partition(columns: list[tuple[int, ...]], vectors: list[int], budget: Budget) -> list[int]:
    """The block of each state; the last state is DEAD's.

    One block need not be tried at first: what leads there is what leads to none of the others.
    """
    block_of = number_by_first_use((*vectors, 0))
    blocks: list[set[int]] = [set() for _ in range(max(block_of) + 1)]
    for state, block in enumerate(block_of):
        blocks[block].add(state)
    sources = _invert(columns)
    pending = set(range(len(blocks))) - {block_of[-1]}
    while pending:
        leads_there: dict[int, list[int]] = {}
        for target in blocks[pending.pop()]:
            budget.spend(1 + len(sources[target]))
            for byte_class, source in sources[target]:
                leads_there.setdefault(byte_class, []).append(source)
        for states in leads_there.values():
            for block, new in _split(blocks, block_of, states):
                smaller = new if len(blocks[new]) <= len(blocks[block]) else block
                pending.add(new if block in pending else smaller)
    return block_of


def _invert(columns: list[tuple[int, ...]]) -> list[list[tuple[int, int]]]:
    """Of each state, the (class, state) that lead to it."""
    sources: list[list[tuple[int, int]]] = [[] for _ in columns[0]]
    for byte_class, column in enumerate(columns):
        for source, target in enumerate(column):
            sources[target].append((byte_class, source))
    return sources


def _split(blocks: list[set[int]], block_of: list[int], states: Iterable[int]) -> list[tuple[int, int]]:
    """Part `states` from the rest of their blocks; (block, new block) of each block that had a rest."""
    parts: dict[int, list[int]] = {}
    for state in states:
        parts.setdefault(block_of[state], []).append(state)
    split = [(block, part) for block, part in parts.items() if len(part) < len(blocks[block])]
    pairs = []
    for block, part in split:
        pairs.append((block, len(blocks)))
        for state in part:
            block_of[state] = len(blocks)
        blocks[block].difference_update(part)
        blocks.append(set(part))
    return pairs


def _number(dense: Dense, columns: list[tuple[int, ...]], block_of: list[int]) -> Dfa:
    """The automaton of the blocks that can be reached and can still accept."""
    member = {block: state for state, block in enumerate(block_of)}
    vectors = (*dense.vectors, 0)
    numbers = {block_of[0]: 0, block_of[-1]: DEAD}
    order = [0]
    targets: list[list[int]] = []
    for state in order:  # grows meanwhile
        row = []
        for column in columns:
            block = block_of[column[state]]
            if block not in numbers:
                numbers[block] = len(order)
                order.append(member[block])
            row.append(numbers[block])
        targets.append(row)
    merged = list(zip(*targets, strict=True))
    class_of = number_by_first_use(merged)
    return Dfa(
        classes=bytes(class_of[byte_class] for byte_class in dense.classes),
        rows=tuple(make_row(row) for row in zip(*dict.fromkeys(merged), strict=True)),
        vectors=tuple(vectors[state] for state in order),
    )
