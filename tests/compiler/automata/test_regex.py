"""Regexes match what RE2 does, in Envoy's mode: the whole subject, any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.compiler.automata import Bounds, Budget, RegexInvalid, compile_regex
from kmesh.compiler.automata.bounds import BoundExceeded
from kmesh.compiler.automata.minimise import minimise
from kmesh.compiler.automata.nfa import Nfa
from kmesh.compiler.automata.subset import determinise
from kmesh.regex import parse_regex
from tests.support.automata import check_minimal, compile_re2, transition_words

ATOMS = [
    "a", "b", "k", "s", "é", "ſ", "\n", "/", "-", ".", "(?s:.)", "^", "$", "(?m:^)", "(?m:$)", r"\A", r"\z",
    r"\b", r"\B", "[a-c]", "[^a]", "[^é]", "(?i:k)", "(?i:[^s])", r"\d", r"\D", r"\w", r"\W", r"\s", r"(?i:\W)",
    "[[:alpha:]k]", r"[\d\W]", r"[^\W]", r"\C", r"[\x{80}-\x{10FFFF}]", r"[\x{81}-\x{10FFFF}]", r"[\x{700}-\x{1000}]",
    r"[\x{D7F0}-\x{E010}]", r"[^\x00-\x{10FFFF}]", "()", r"\Qa.b\E",
]  # fmt: skip
FRAGMENTS = [
    *ATOMS, "(", ")", "(?:", "(?i)", "(?s)", "(?m)", "(?i-m:", "(?P<n>", "(?P<", ">", "(?", "|", "*", "+", "?", "*?",
    "{2}", "{0,2}", "{1,}", "{,2}", "{", "}", "{1001}", "[", "]", "[^", "[:", ":]", "[:alpha:]", "-", r"\Q", r"\E",
    "\\", r"\x", r"\x{e9}", r"\x41", r"\101", r"\1", r"\_", "i", "1",
]  # fmt: skip
PIECES = [
    b"a", b"b", b"c", b"k", b"K", b"s", b"S", b"_", b"-", b"/", b".", b" ", b"\n", b"0", b"\x00", b"\xff", b"\xc3",
    b"\xa9", b"\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\xbf\xbf\xbf", b"\xed\xa0\x80",
    *(character.encode() for character in "éÉſK\x80߿ࠀ￿\U0010ffff"),
]  # fmt: skip


def compose(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(parts, min_size=2, max_size=3)
    repetition = st.sampled_from(["*", "+", "?", "*?", "{2}", "{0,2}", "{1,}"])
    return st.one_of(
        several.map("".join),
        several.map("|".join).map("(?:{})".format),
        st.tuples(parts, repetition).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(st.sampled_from(["(?i:", "(?s:", "(?m:", "("]), parts).map(lambda pair: f"{pair[0]}{pair[1]})"),
    )


well_formed = st.recursive(st.sampled_from(ATOMS), compose, max_leaves=8)
any_text = st.lists(st.sampled_from(FRAGMENTS), max_size=9).map("".join)
subjects = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(pattern=well_formed, drawn=st.lists(subjects, max_size=10))
def test_matches_as_re2(pattern: str, drawn: list[bytes]) -> None:
    reference = compile_re2(pattern)
    assert reference is not None
    dfa = compile_regex(pattern)
    for subject in (*drawn, *transition_words(dfa)):
        got, want = dfa.matches(subject), reference.fullmatch(subject) is not None
        assert got == want, subject


@settings(max_examples=800, deadline=None)
@given(pattern=any_text, drawn=st.lists(subjects, max_size=5))
def test_takes_what_re2_takes(pattern: str, drawn: list[bytes]) -> None:
    reference = compile_re2(pattern)
    if reference is None:
        with pytest.raises(RegexInvalid):
            compile_regex(pattern)
        return
    dfa = compile_regex(pattern)
    for subject in drawn:
        got, want = dfa.matches(subject), reference.fullmatch(subject) is not None
        assert got == want, subject


@settings(max_examples=300, deadline=None)
@given(pattern=well_formed, drawn=st.lists(subjects, max_size=10))
def test_minimised_is_minimal_and_equal(pattern: str, drawn: list[bytes]) -> None:
    budget = Budget()
    dense = determinise(Nfa(parse_regex(pattern), budget), budget)
    dfa = minimise(dense, budget)
    check_minimal(dfa)
    for subject in (*drawn, *transition_words(dfa)):
        state = 0
        for byte in subject:
            state = dense.targets[state][dense.classes[byte]] if state >= 0 else state
        want = dense.vectors[state] if state >= 0 else 0
        assert dfa.run(subject) == want, subject


@settings(max_examples=200, deadline=None)
@given(left=well_formed, right=well_formed)
def test_equal_languages_have_equal_automata(left: str, right: str) -> None:
    got = compile_regex(f"(?:{left})|(?:{right})|(?:{left})")
    want = compile_regex(f"(?:{right})|(?:{left})")
    assert got == want


TYPICAL = [
    ("/api/v[0-9]+/.*", ["/api/v1/x", "/api/v12/", "/api/v/x", "/api/v1"]),
    ("^/(users|orders)/[^/]+$", ["/users/7", "/orders/a.b", "/users/7/x", "/users/"]),
    (r".*\.example\.com", ["a.example.com", ".example.com", "example.com", "aexample.com"]),
    (r"(?i)^bearer\s+.+$", ["Bearer abc", "BEARER\t1", "bearer", "xbearer a"]),
    (r".*\bMSIE (\d+)\b.*", ["x MSIE 10 y", "MSIE 9", "MSIE 9b", "xMSIE 9"]),
    (r"[a-f0-9]{8}-(?:[a-f0-9]{4}-){3}[a-f0-9]{12}", ["123e4567-e89b-12d3-a456-426614174000", "123e4567"]),
]


@pytest.mark.parametrize(("pattern", "subjects"), TYPICAL, ids=[pattern for pattern, _ in TYPICAL])
def test_typical(pattern: str, subjects: list[str]) -> None:
    reference, dfa = compile_re2(pattern), compile_regex(pattern)
    assert reference is not None
    got = [dfa.matches(subject.encode()) for subject in subjects]
    want = [reference.fullmatch(subject) is not None for subject in subjects]
    assert got == want
    assert True in got and False in got


def test_ignore_case_is_the_flag() -> None:
    assert compile_regex("/Ab[k-l]", ignore_case=True) == compile_regex("(?i)/Ab[k-l]")


def test_nothing_matches_an_empty_set() -> None:
    dfa = compile_regex(r"a[^\x00-\x{10FFFF}]")
    assert (len(dfa.rows), dfa.class_count, dfa.matches(b"a")) == (1, 1, False)


@pytest.mark.parametrize(
    ("pattern", "bound"),
    [
        (".*a.{20}", "subset states"),
        ("(?:.*a.{3}){4}.*b.{30}", "subset states"),
        ("(a|b|ab|ba){1000}", "subset states"),
        ("(.?){1000}a{1000}", "steps of work"),
        ("(?:(?:" + "a" * 60 + "){10}){100}", "nfa states"),
        ("|".join(f"/{number}/.*/x" for number in range(100)) + "|.*y.{40}", "subset states"),
    ],
)
def test_over_a_bound(pattern: str, bound: str) -> None:
    with pytest.raises(BoundExceeded) as caught:
        compile_regex(pattern)
    got = caught.value.over
    assert (got.bound, got.needed > got.limit) == (bound, True)
    assert f"{got.needed} {bound} or more (the limit is {got.limit})" in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("(a|a)*b", 2),
        ("(x+x+)+y", 4),
        ("(a*)*", 1),
        ("(.*a){20}", 81),
        ("(a?){200}a{200}", 401),
        ("((a{10}){10}){10}", 1001),
    ],
)
def test_catastrophic_for_backtracking_only(pattern: str, states: int) -> None:
    got = len(compile_regex(pattern).rows)
    assert got == states


def test_bounds_are_inclusive() -> None:
    compile_regex("abc", Budget(Bounds(nfa_states=4, subset_states=4)))
    for bounds in (Bounds(nfa_states=3), Bounds(subset_states=3), Bounds(steps_of_work=3)):
        with pytest.raises(BoundExceeded):
            compile_regex("abc", Budget(bounds))
