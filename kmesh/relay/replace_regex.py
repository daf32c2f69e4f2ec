r"""RE2's GlobalReplace, as Envoy rewrites paths and hosts with it: the parts that its Python binding has otherwise.

    (a)b, \1-   in   abab   ->   a-a-

Source: re2/re2.cc, RE2::GlobalReplace and RE2::Rewrite; source/common/common/regex.cc of Envoy.
"""

from __future__ import annotations

import re
from functools import lru_cache

import re2

from kmesh.model.edits import RegexRewrite

__all__ = ["replace_regex"]

_UTF8_SEQUENCE = re.compile(
    rb"[\0-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_GROUP = re.compile(rb"\\([0-9])")


def replace_regex(rewrite: RegexRewrite, text: bytes) -> bytes:
    """Every match, from left to right. `text` itself where there is none, or no such group as is substituted."""
    pattern, substitution = _compile(rewrite.pattern), rewrite.substitution.encode()
    if max(map(int, _GROUP.findall(substitution.replace(rb"\\", b""))), default=0) > pattern.groups:
        return text
    out: list[bytes] = []
    at, last_end = 0, -1
    while at <= len(text) and (match := pattern.search(text, at)):
        start, end = match.span()
        out.append(text[at:start])
        if start == end == last_end:  # an empty match right behind another is passed over
            following = _UTF8_SEQUENCE.match(text, at)
            step = following.end() - at if following else 1
            out.append(text[at : at + step])
            at += step
            continue
        out.append(_expand(substitution, match))
        at = last_end = end
    return b"".join((*out, text[at:]))


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


def _expand(substitution: bytes, match: re2._Match) -> bytes:
    r"""Up to the first backslash that no digit or backslash follows, where RE2 stops as well."""
    out = bytearray()
    parts = iter(substitution)
    for byte in parts:
        if byte != ord("\\"):
            out.append(byte)
            continue
        escaped = next(parts, None)
        if escaped == ord("\\"):
            out.append(byte)
        elif escaped is not None and ord("0") <= escaped <= ord("9"):
            out += match.group(escaped - ord("0")) or b""
        else:
            break
    return bytes(out)
