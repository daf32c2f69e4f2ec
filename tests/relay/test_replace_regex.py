"""RE2's GlobalReplace: what its documentation and tests say. tests/relay/test_decide_against_envoy.py has Envoy's."""

from __future__ import annotations

import pytest

from kmesh.model.edits import RegexRewrite
from kmesh.relay.replace_regex import replace_regex


@pytest.mark.parametrize(
    ("pattern", "substitution", "text", "want"),
    [
        ("a", "b", "xax", "xbx"),
        ("a", "b", "xyz", "xyz"),
        ("(a)b", r"\1-", "abab", "a-a-"),
        ("^/v1/(.*)$", r"/\1", "/v1/x/y", "/x/y"),
        ("a", r"\0\0", "bab", "baab"),
        ("(a)|b", r"[\1]", "ab", "[a][]"),
        ("b*", "bb", "ab", "bbabb"),
        ("", "-", "aé", "-a-é-"),
        ("a", r"\\", "a", "\\"),
        ("(a)", r"\2", "a", "a"),
        ("a", r"x\ay", "bab", "bxb"),
        ("^", "x", "ab", "xab"),
        ("/+", "/", "//a///b", "/a/b"),
    ],
)
def test_replaces_as_re2_does(pattern: str, substitution: str, text: str, want: str) -> None:
    rewrite = RegexRewrite(pattern=pattern, substitution=substitution)
    assert replace_regex(rewrite, text.encode()).decode() == want
