"""Every kind of pattern means what its definition says, alone and together with others, in a smallest automaton."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.compiler.automata import (
    BoundExceeded,
    Bounds,
    Budget,
    Integers,
    Kind,
    Pattern,
    Regex,
    RegexInvalid,
    Text,
    compile_union,
)
from tests.support.automata import check_minimal, compile_re2, transition_words

REGEXES = ["a*b", "(?i)ab+/.*", ".*ab", "[^/]+/b?", "(a|b){2,3}", "", r"\w*\b/.*"]

words = st.lists(st.sampled_from([b"a", b"A", b"b", b"B", b"/", b"\xc3\xa9", b"\xff"]), max_size=5).map(b"".join)
texts = st.builds(Text, kind=st.sampled_from(Kind), text=words, ignore_case=st.booleans())
few_contains = texts.filter(lambda text: text.kind is not Kind.CONTAINS)
regexes = st.builds(Regex, pattern=st.sampled_from(REGEXES), ignore_case=st.booleans())
pattern_lists = st.tuples(st.lists(few_contains | regexes, max_size=8), st.lists(texts, max_size=3)).map(
    lambda lists: [*lists[0], *lists[1]]
)


def expected(pattern: Pattern, subject: bytes) -> bool:
    if isinstance(pattern, Regex):
        reference = compile_re2(f"(?i){pattern.pattern}" if pattern.ignore_case else pattern.pattern)
        assert reference is not None
        return reference.fullmatch(subject) is not None
    return pattern.matches(subject)


def text(kind: Kind, value: str, *, ignore_case: bool = False) -> Text:
    return Text(kind=kind, text=value.encode(), ignore_case=ignore_case)


@pytest.mark.parametrize(
    ("pattern", "matched", "unmatched"),
    [
        (text(Kind.EXACT, "/a"), ["/a"], ["", "/", "/A", "/ab", "x/a"]),
        (text(Kind.EXACT, ""), [""], ["a"]),
        (text(Kind.EXACT, "/a", ignore_case=True), ["/a", "/A"], ["/", "/á"]),
        (text(Kind.PREFIX, "/a"), ["/a", "/ab", "/a/b"], ["", "/", "/A", "x/a"]),
        (text(Kind.PREFIX, ""), ["", "a"], []),
        (text(Kind.SEPARATED_PREFIX, "/a"), ["/a", "/a/", "/a/b"], ["/ab", "/", "/a?"]),
        (text(Kind.SEPARATED_PREFIX, "/A", ignore_case=True), ["/a", "/A/b"], ["/ab"]),
        (text(Kind.SUFFIX, "aab"), ["aab", "aaab", "xaab"], ["aabb", "ab", ""]),
        (text(Kind.SUFFIX, "É", ignore_case=True), ["É", "xÉ"], ["é", ""]),
        (text(Kind.CONTAINS, "aab"), ["aab", "aaab", "xaabx"], ["aaba"[:2], "abab", ""]),
        (text(Kind.CONTAINS, ""), ["", "a"], []),
        (Regex(pattern="a[bc]+"), ["ab", "acb"], ["a", "xab"]),
        (
            Integers(start=-5, end=12),
            ["-5", "0", "-0", "+11", "0011", " 7\t"],
            ["12", "-6", "", "+", "1 1", "0x1", "--1"],
        ),
        (Integers(start=5, end=5), [], ["4", "5", "6", ""]),
    ],
)
def test_each_kind(pattern: Pattern, matched: list[str], unmatched: list[str]) -> None:
    dfa = compile_union([pattern])
    assert [dfa.run(subject.encode()) for subject in matched] == [1] * len(matched)
    assert [dfa.run(subject.encode()) for subject in unmatched] == [0] * len(unmatched)
    check_minimal(dfa)


@settings(max_examples=200, deadline=None)
@given(patterns=pattern_lists, drawn=st.lists(words, max_size=8))
def test_vector_is_what_each_pattern_says(patterns: list[Pattern], drawn: list[bytes]) -> None:
    dfa = compile_union(patterns)
    for subject in (*drawn, *list(transition_words(dfa))[:300]):
        want = sum(expected(pattern, subject) << index for index, pattern in enumerate(patterns))
        assert dfa.run(subject) == want, subject


@settings(max_examples=150, deadline=None)
@given(patterns=pattern_lists)
def test_union_is_minimal(patterns: list[Pattern]) -> None:
    check_minimal(compile_union(patterns))


@settings(max_examples=200, deadline=None)
@given(
    start=st.integers(-1100, 1100) | st.integers(-(1 << 63), (1 << 63) - 1),
    length=st.integers(-3, 1500) | st.integers(0, 1 << 64),
    near=st.integers(-3, 3),
    zeros=st.integers(0, 3),
)
def test_integers(start: int, length: int, near: int, zeros: int) -> None:
    pattern = Integers(start=start, end=start + length)
    dfa = compile_union([pattern])
    check_minimal(dfa)
    edges = (start, start + length, 0, -start, 1 << 63, -(1 << 63), start + length // 2)
    for value in (edge + near for edge in edges):
        sign = "-" if value < 0 else ""
        subject = f"{sign}{'0' * zeros}{abs(value)}".encode()
        assert dfa.matches(subject) == pattern.matches(subject), subject


def test_every_byte_used_leaves_no_state_out_of_reach() -> None:
    patterns = [Text(kind=Kind.PREFIX, text=bytes((byte,))) for byte in range(256)]
    dfa = compile_union([*patterns, Text(kind=Kind.PREFIX, text=b"")])
    check_minimal(dfa)
    assert dfa.run(b"\x07x") == 1 << 7 | 1 << 256


def test_equal_patterns_share_their_states() -> None:
    pattern = Regex(pattern="/x/[0-9]+")
    got = compile_union([pattern, pattern, text(Kind.PREFIX, "/x"), text(Kind.PREFIX, "/x")])
    assert got.run(b"/x/12") == 0b1111
    assert len(got.rows) == len(compile_union([pattern, text(Kind.PREFIX, "/x")]).rows)


def test_no_patterns() -> None:
    dfa = compile_union([])
    assert (len(dfa.rows), dfa.run(b""), dfa.run(b"a")) == (1, 0, 0)


def test_same_patterns_same_automaton() -> None:
    patterns = [*(text(kind, "/ab") for kind in Kind), *(Regex(pattern=pattern) for pattern in REGEXES)]
    assert repr(compile_union(patterns)) == repr(compile_union(list(patterns)))


def test_invalid_regex_is_refused() -> None:
    with pytest.raises(RegexInvalid):
        compile_union([text(Kind.EXACT, "a"), Regex(pattern="(")])


@pytest.mark.parametrize(
    ("patterns", "bounds", "bound"),
    [
        ([text(Kind.CONTAINS, f"word{number}") for number in range(40)], Bounds(), "contains states"),
        ([Regex(pattern=f".*/{number}/.*") for number in range(40)], Bounds(steps_of_work=100_000), "steps of work"),
        ([Regex(pattern=f".*/{number}/.*") for number in range(40)], Bounds(states=100), "states"),
        ([text(Kind.PREFIX, "abcdef")], Bounds(states=6), "states"),
        ([text(Kind.SUFFIX, "abcdef")], Bounds(states=6), "states"),
        ([Regex(pattern="a{100}")], Bounds(subset_states=50), "subset states"),
    ],
    ids=["contains", "product steps", "product", "trie", "suffix", "regex"],
)
def test_over_a_bound(patterns: list[Pattern], bounds: Bounds, bound: str) -> None:
    with pytest.raises(BoundExceeded) as caught:
        compile_union(patterns, Budget(bounds))
    assert caught.value.over.bound == bound


def test_ten_thousand_paths_are_linear() -> None:
    """No timing: the states are the nodes of the trie, and the work is one visit of each."""
    paths = [f"/api/v{number % 3}/service-{number}/list" for number in range(10_000)]
    patterns = [*(text(Kind.PREFIX, path) for path in paths), text(Kind.PREFIX, "/")]
    started = process_time()
    dfa = compile_union(patterns)
    assert process_time() - started < 20
    nodes = {path[:length] for path in paths for length in range(len(path) + 1)}
    assert len(dfa.rows) == len(nodes) + 1
    assert dfa.run(paths[1234].encode() + b"/x") == 1 << 1234 | 1 << 10_000
