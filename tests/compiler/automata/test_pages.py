"""Pages run as their automaton does, and are what decision 8 says they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import iter_unpack
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.compiler.automata import (
    BoundExceeded,
    Dfa,
    Kind,
    Machine,
    Packed,
    Pattern,
    Regex,
    Row,
    Text,
    compile_union,
    make_machine,
    make_word,
    pack_pages,
    pages,
)
from kmesh.compiler.interpreter.automaton import run_automaton, step
from kmesh.records.constants import DEAD_STATE, EVENT_SHIFT, LIMITS, HeadEvent, SlotFlag
from kmesh.records.layout import PAGE, PAGE_KEY
from tests.support.automata import transition_words

SLOTS = LIMITS["PAGE_SLOTS"]

words = st.lists(st.sampled_from([b"a", b"A", b"b", b"/", b"\xff"]), max_size=5).map(b"".join)
texts = st.builds(Text, kind=st.sampled_from(Kind), text=words, ignore_case=st.booleans())
regexes = st.builds(Regex, pattern=st.sampled_from(["a*b", ".*ab", "[^/]+/b?", "(a|b){2,3}", "", ".*[ab].{5}"]))


def spread(vector: int) -> int:
    """64 bits of it that differ from vector to vector; 0 for 0."""
    return vector * 0x9E3779B97F4A7C15 & (1 << 64) - 1


def text(kind: Kind, value: str) -> Text:
    return Text(kind=kind, text=value.encode())


def pack(patterns: Sequence[Pattern], output_of: Callable[[int], int] = spread) -> Packed:
    return pack_pages(make_machine(compile_union(patterns), output_of))


def read_slots(packed: Packed) -> list[tuple[int, int]]:
    """(check, word) of all pages, so that a state's number is its place."""
    return [slot for _, page in packed.records for slot in iter_unpack("<II", page[PAGE.offset("slots") :])]


def reachable_states(packed: Packed) -> set[int]:
    table = dict(packed.records)
    found = [0]
    for state in found:
        classes = packed.records[state // SLOTS][1][:256]
        for byte in {byte_class: classes.index(byte_class) for byte_class in classes}.values():
            target = step(table, packed.automaton, state, byte).state
            if target != DEAD_STATE and target not in found:
                found.append(target)
    return set(found)


def check_slots(packed: Packed, dfa: Dfa) -> None:
    """Each slot is a header, an output or a transition of one state that there is, and nothing else."""
    slots = read_slots(packed)
    states = reachable_states(packed)
    assert len(states) == len(dfa.rows)
    owner: dict[int, int] = {}
    for state in states:
        check = slots[state][0]
        assert check in (0, SlotFlag.OUTPUT)
        places = [state, *((state + 1, state + 2) if check else ())]
        assert not any(slots[place][0] for place in places[1:]), "an output has no flag"
        behind = min(state + 4 + max(packed.records[state // SLOTS][1][:256]), len(slots))
        places += [place for place in range(state + 3, behind) if slots[place][0] == SlotFlag.ROW | state]
        assert {place // SLOTS for place in places} == {state // SLOTS}, "a state lies on one page"
        assert not owner.keys() & set(places)
        owner |= dict.fromkeys(places, state)
    assert all(slots[place] == (0, 0) for place in range(len(slots)) if place not in owner)


@settings(max_examples=150, deadline=None)
@given(patterns=st.lists(texts | regexes, max_size=6), drawn=st.lists(words, max_size=8))
def test_pages_run_as_their_automaton(patterns: list[Pattern], drawn: list[bytes]) -> None:
    dfa = compile_union(patterns)
    packed = pack(patterns)
    table = dict(packed.records)
    for subject in (*drawn, *list(transition_words(dfa))[:300]):
        want = spread(dfa.run(subject))
        assert run_automaton(table, packed.automaton, subject) == want, subject


@settings(max_examples=50, deadline=None)
@given(patterns=st.lists(texts | regexes, max_size=6))
def test_each_slot_has_one_owner(patterns: list[Pattern]) -> None:
    check_slots(pack(patterns), compile_union(patterns))


@pytest.mark.parametrize(
    ("patterns", "least_pages"),
    [
        ([text(Kind.PREFIX, f"/{number:03}/{number * number}") for number in range(300)], 8),
        ([Regex(pattern=".*[ab].{7}")], 7),
        ([Text(kind=Kind.EXACT, text=bytes((first, first ^ 0xFF))) for first in range(256)], 3),
        ([Text(kind=Kind.SUFFIX, text=bytes((first, 7, 8))) for first in range(256)], 200),
    ],
    ids=["trie", "regex", "a state with 256 exceptions", "many with 256 exceptions"],
)
def test_several_pages(patterns: list[Pattern], least_pages: int) -> None:
    dfa = compile_union(patterns)
    packed = pack(patterns)
    table = dict(packed.records)
    assert len(packed.records) >= least_pages
    assert [key for key, _ in packed.records] == [
        PAGE_KEY.pack(packed.automaton, number) for number in range(len(packed.records))
    ]
    assert {len(page) for _, page in packed.records} == {PAGE.size}
    for subject in list(transition_words(dfa))[::7]:
        assert run_automaton(table, packed.automaton, subject) == spread(dfa.run(subject)), subject
    if len(dfa.rows) < 1000:
        check_slots(packed, dfa)


def test_an_output_may_have_all_64_bits() -> None:
    packed = pack([text(Kind.EXACT, "a")], lambda vector: (1 << 64) - 1 if vector else 1 << 32)
    table = dict(packed.records)
    assert run_automaton(table, packed.automaton, b"a") == (1 << 64) - 1
    assert run_automaton(table, packed.automaton, b"") == 1 << 32


@pytest.mark.parametrize(
    ("patterns", "subject", "steps"),
    [
        ([text(Kind.PREFIX, "/a")], b"/abc", 2),
        ([text(Kind.PREFIX, "")], b"abc", 1),
        ([text(Kind.EXACT, "/a")], b"/abc", 3),
        ([text(Kind.SUFFIX, "/a")], b"/abc", 4),
    ],
    ids=["prefix", "everything", "exact", "suffix"],
)
def test_a_run_ends_as_soon_as_it_can(patterns: list[Pattern], subject: bytes, steps: int) -> None:
    packed = pack(patterns)
    table, state, got = dict(packed.records), 0, 0
    for got, byte in enumerate(subject, 1):  # noqa: B007
        taken = step(table, packed.automaton, state, byte)
        if taken.event == HeadEvent.FINAL or taken.state == DEAD_STATE:
            break
        state = taken.state
    assert got == steps


def test_events_and_classes_stay_as_they_are() -> None:
    """A machine that is no Dfa's: 256 classes, each with an event of its own."""
    rows = [Row(make_word(DEAD_STATE, 255), {byte: make_word(byte % 2, byte) for byte in range(1, 256)}), Row(0, {})]
    machine = Machine(classes=bytes(range(256)), rows=rows, outputs=[0, 5])
    packed = pack_pages(machine)
    table = dict(packed.records)
    assert step(table, packed.automaton, 0, 0).word == DEAD_STATE | 255 << EVENT_SHIFT
    odd = step(table, packed.automaton, 0, 1).state
    for byte in range(1, 256):
        taken = step(table, packed.automaton, 0, byte)
        assert (taken.state, taken.event, taken.output) == (odd if byte % 2 else 0, byte, 0)
    last = step(table, packed.automaton, odd, 9)
    assert (last.word, last.output) == (0, 5)


def test_the_most_used_exception_has_the_lowest_class() -> None:
    packed = pack([text(Kind.EXACT, "zyxz"), text(Kind.EXACT, "yz")])
    classes = packed.records[0][1][:256]
    assert [classes[byte] for byte in b"zyx"] == [0, 1, 2]
    assert {classes[byte] for byte in range(256) if byte not in b"zyx"} == {3}


def test_classes_are_the_pages_own() -> None:
    """Three states with 255 exceptions each, which fit one page only where they lead alike by most bytes."""
    rows = [
        Row(DEAD_STATE, {byte: make_word(1) for byte in range(1, 256)}),
        Row(DEAD_STATE, {byte: make_word(2) for byte in range(1, 256)}),
        Row(DEAD_STATE, {byte: make_word(byte % 2 and 1) for byte in range(1, 256)}),
    ]
    packed = pack_pages(Machine(classes=bytes(range(256)), rows=rows, outputs=[0, 0, 5]))
    assert len(packed.records) == 1
    assert set(packed.records[0][1][:256]) == {0, 1, 2}
    assert run_automaton(dict(packed.records), packed.automaton, b"\7\7\7\7") == 5
    assert run_automaton(dict(packed.records), packed.automaton, b"\7\7\0") == 0


def test_an_entry_begins_a_page_with_what_lies_below() -> None:
    """A chain of ten states that could lie on one page."""
    rows = [Row(DEAD_STATE, {0: make_word(state + 1)}) for state in range(9)]
    rows.append(Row(make_word(4), {}))
    machine = Machine(classes=bytes(256), rows=rows, outputs=[0] * 10, entries=(4,))
    packed = pack_pages(machine)
    table, state, walk = dict(packed.records), 0, [0]
    for _ in range(10):
        state = step(table, packed.automaton, state, 0).state
        walk.append(state)
    assert [each // SLOTS for each in walk] == [0] * 4 + [1] * 7
    assert walk[4] == SLOTS == walk[10]


def renumber(machine: Machine, new_states: Sequence[int], new_classes: Sequence[int]) -> Machine:
    """The same machine, where state n is new_states[n] and class n new_classes[n]."""

    def relocate(word: int) -> int:
        state = word & DEAD_STATE
        return word if state == DEAD_STATE else word - state + new_states[state]

    rows = [Row(0, {})] * len(machine.rows)
    outputs = [0] * len(machine.rows)
    for state, row in enumerate(machine.rows):
        exceptions = {new_classes[number]: relocate(word) for number, word in reversed(row.exceptions.items())}
        rows[new_states[state]] = Row(relocate(row.otherwise), exceptions)
        outputs[new_states[state]] = machine.outputs[state]
    return Machine(classes=bytes(new_classes[number] for number in machine.classes), rows=rows, outputs=outputs)


def test_equal_automata_have_equal_pages_however_they_are_numbered() -> None:
    dfa = compile_union([text(Kind.PREFIX, f"/{number}/{number * number}") for number in range(100)])
    machine = make_machine(dfa, spread)
    new_states = [0, *range(len(dfa.rows) - 1, 0, -1)]
    new_classes = range(dfa.class_count - 1, -1, -1)
    want = pack_pages(machine)
    assert pack_pages(machine) == want
    assert pack_pages(renumber(machine, new_states, new_classes)) == want


def test_different_automata_have_different_names() -> None:
    patterns: list[list[Pattern]] = [[], [text(Kind.EXACT, "a")], [text(Kind.EXACT, "b")], [text(Kind.PREFIX, "a")]]
    assert len({0, *(pack(each).automaton for each in patterns)}) == len(patterns) + 1


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself, 24 bits of slots, is 150 MB of pages away."""
    patterns = [Regex(pattern=".*[ab].{7}")]
    count = len(pack(patterns).records)
    monkeypatch.setattr(pages, "_MAX_PAGES", count)
    assert len(pack(patterns).records) == count
    monkeypatch.setattr(pages, "_MAX_PAGES", count - 1)
    with pytest.raises(BoundExceeded) as caught:
        pack(patterns)
    assert caught.value.over.bound == "pages"


def test_ten_thousand_paths() -> None:
    """Packed in linear time, three quarters full, and with few pages on the way to any of them."""
    paths = [f"/api/v{number % 3}/service-{number}/list" for number in range(10_000)]
    dfa = compile_union([*(text(Kind.PREFIX, path) for path in paths), text(Kind.PREFIX, "/")])
    machine = make_machine(dfa, spread)
    started = process_time()
    packed = pack_pages(machine)
    assert process_time() - started < 10
    outputs = sum(2 for output in machine.outputs if output)
    used = outputs + len(machine.rows) + sum(len(row.exceptions) for row in machine.rows)
    assert used > 0.75 * SLOTS * len(packed.records)
    table = dict(packed.records)
    for path in paths[::97]:
        subject = path.encode()
        assert run_automaton(table, packed.automaton, subject + b"/x") == spread(dfa.run(subject))
        state, crossed = 0, 0
        for byte in subject:
            target = step(table, packed.automaton, state, byte).state
            crossed += target // SLOTS != state // SLOTS
            state = target
        assert crossed <= 6
