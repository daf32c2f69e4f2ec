"""The parser takes what RE2 takes, refuses what RE2 refuses, and names what it cannot honour."""

from __future__ import annotations

import pytest

from kmesh.errors import Unsupported
from kmesh.regex import RegexInvalid, parse_regex
from tests.support.automata import compile_re2

VALID = [
    "", "|", "(|a)*", "()", "^*", "a(?i)*", "a*(?i)*", r"a*\Q\E*", "a{,2}", "a{2", "a{2,", "a{}", "a{00001}",
    "a{99999999999}", "a{0}", "a{1000}", "((a{10}){10}){10}", "(a{1000}){0}", "(a{1000}){1}", "a{2}?", "a*?", "a??",
    "[]a]", "[^]a]", "[a-]", "[--a]", "[a-b-c]", "[[:alpha]", "[[:^alpha:]]", "[:alpha:]", "[[.a.]]", "[[=a=]]",
    r"[\d-z]", r"\_", r"\-", r"\x41", r"\x{00000000041}", r"\x{D800}", r"\x{10FFFF}", r"\12", r"\0", r"\012",
    r"\777", r"\07", r"\a\f\n\r\t\v", r"\C", r"\A\z\b\B", r"\Q", r"\Qa\\", r"\Qa\\E",
    "(?)", "(?i)", "(?-i)a", "(?ims-U:a)", "(?iU)a", "(?P<n>a)", "(?<n>a)", "(?P<é>a)",
    "(?P<n>a)(?P<n>b)", "[[:]", "]", "}", "{", "\x00", "é",
]  # fmt: skip

INVALID = [
    "*", "+a", "{2}", "|*", "(*)", "(?i)*", r"\Q\E*", "a**", "a++", "a???", "a*{2}", "a{2}{2}", "a{2}??", "a{1001}",
    "a{1001,}", "a{0,1001}", "x{2,1}", "(a{100}){11}", "((a{10}){10}){11}", "(", ")", "a)", "((a)", "(?", "(?i",
    "(?:", "(?z)", "(?i-)", "(?--i)", "(?=a)", "(?!a)", "(?#a)", "(?P=n)", "(?P<n", "(?P<>a)", "(?P<n-a>b)",
    "[", "[]", "[a", "[a-", "[^", "[z-a]", r"[a-\d]", "[[:foo:]]", "[[:alpha:]", r"[\b]", r"[\A]",
    r"[\Qa\E]", "\\", r"\Z", r"\1", r"\8", r"\é", r"\u0041", r"\e", r"\h", r"\x", r"\x4", r"\x4}", r"\xg0", r"\x{}",
    r"\x{", r"\x{ 41}", r"\x{110000}", r"\p", r"\p{", r"\pL(", r"[\pL", r"\pL**",
]  # fmt: skip


@pytest.mark.parametrize("pattern", VALID)
def test_valid(pattern: str) -> None:
    assert compile_re2(pattern) is not None
    parse_regex(pattern)


@pytest.mark.parametrize("pattern", INVALID)
def test_invalid(pattern: str) -> None:
    assert compile_re2(pattern) is None
    with pytest.raises(RegexInvalid):
        parse_regex(pattern)


def test_invalid_is_a_value_error_that_says_where() -> None:
    with pytest.raises(ValueError, match=r"unexpected \) before offset 2 of regex 'ab\)c'"):
        parse_regex("ab)c")


def test_lone_surrogate_is_no_pattern() -> None:
    with pytest.raises(RegexInvalid, match="not UTF-8"):
        parse_regex("\ud800")


@pytest.mark.parametrize(
    ("pattern", "feature"),
    [
        (r"\pN+", r"the Unicode class \pN"),
        (r"a|\P{Greek}", r"the Unicode class \P{Greek}"),
        (r"[\p{^Lu}_]", r"the Unicode class \p{^Lu}"),
        ("(a" * 600 + ")" * 600, "a regex nested deeper than 200"),
        ("a" + "(?i)*" * 100_000, "a regex nested deeper than 200"),
    ],
    ids=["letter", "name", "negated", "groups", "repetitions"],
)
def test_unsupported(pattern: str, feature: str) -> None:
    assert len(pattern) > 1000 or compile_re2(pattern) is not None
    with pytest.raises(Unsupported) as caught:
        parse_regex(pattern)
    got = caught.value.feature
    assert got == feature
