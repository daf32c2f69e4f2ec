"""The flat table runs as its automaton does."""

from __future__ import annotations

from kmesh.compiler.automata import START, Kind, Regex, Text, compile_union, make_table


def test_layout() -> None:
    dfa = compile_union([Text(kind=Kind.PREFIX, text=b"a"), Regex(pattern="ab*")])
    table = make_table(dfa)
    assert table.class_count == dfa.class_count == 3
    assert list(table.targets[: table.class_count]) == [0, 0, 0], "DEAD leads to itself"
    assert len(table.targets) == (len(dfa.rows) + START) * table.class_count
    assert len(table.accepts) == len(dfa.rows) + START
    assert table.vectors == (0, 0b11, 0b01)
    assert [table.run(word) for word in (b"", b"a", b"abb", b"ax", b"b", b"ba")] == [0, 0b11, 0b11, 0b01, 0, 0]


def test_states_of_equal_vectors_share_one() -> None:
    table = make_table(compile_union([Regex(pattern="a(b|cc)*")]))
    assert table.vectors == (0, 1)
    assert set(table.accepts) == {0, 1}
