"""What tests ask of automata: words that reach every transition, and whether two states are one too many."""

from __future__ import annotations

from collections.abc import Iterator

import re2

from kmesh.compiler.automata import DEAD, Dfa

_QUIET = re2.Options()
_QUIET.log_errors = False


def compile_re2(pattern: str) -> re2._Regexp | None:
    """As Envoy's safe_regex does, with default options; None when RE2 refuses the pattern."""
    try:
        return re2.compile(pattern, _QUIET)
    except re2.error:
        return None


def representative_bytes(dfa: Dfa) -> list[bytes]:
    """The first byte of each class."""
    return [bytes((dfa.classes.index(number),)) for number in range(dfa.class_count)]


def transition_words(dfa: Dfa) -> Iterator[bytes]:
    """For every state a shortest word that leads to it, and that word with one byte of every class appended."""
    letters = representative_bytes(dfa)
    words = {0: b""}
    for state in range(len(dfa.rows)):  # numbered breadth-first, so each was reached from one before it
        yield words[state]
        for number, letter in enumerate(letters):
            yield words[state] + letter
            words.setdefault(dfa.rows[state].target(number), words[state] + letter)


def count_distinct_states(dfa: Dfa) -> int:
    """By Moore's method: into how many states those of `dfa` merge when all that accept alike do."""
    rows = [[row.target(number) for number in range(dfa.class_count)] for row in dfa.rows]
    block: dict[int, object] = {DEAD: None, **dict(enumerate(dfa.vectors))}
    count = 0
    while True:
        keys = [(block[state], *(block[target] for target in row)) for state, row in enumerate(rows)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        block.update((state, numbers[key]) for state, key in enumerate(keys))
        if len(numbers) == count:
            return count
        count = len(numbers)


def can_accept(dfa: Dfa) -> set[int]:
    """States from which some word is accepted."""
    live = {state for state, vector in enumerate(dfa.vectors) if vector}
    while True:
        more = {
            state
            for state, row in enumerate(dfa.rows)
            if row.otherwise in live or any(target in live for target in row.exceptions.values())
        }
        if more <= live:
            return live
        live |= more


def check_minimal(dfa: Dfa) -> None:
    """No two states alike, none beside the start that can never accept, none out of reach, no two classes alike."""
    assert count_distinct_states(dfa) == len(dfa.rows)
    assert can_accept(dfa) | {0} == set(range(len(dfa.rows)))
    assert len(reachable(dfa)) == len(dfa.rows)
    columns = [tuple(row.target(number) for row in dfa.rows) for number in range(dfa.class_count)]
    assert len(set(columns)) == dfa.class_count


def reachable(dfa: Dfa) -> set[int]:
    found = [0]
    for state in found:
        row = dfa.rows[state]
        for number in range(dfa.class_count):
            target = row.target(number)
            if target != DEAD and target not in found:
                found.append(target)
    return set(found)
