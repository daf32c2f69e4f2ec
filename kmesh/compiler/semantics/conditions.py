"""Whether a request meets a route's conditions, and which it does not.

Source: envoy/config/route/v3/route_components.proto; every rule is held against the real Envoy by
tests/compiler/semantics/test_against_envoy.py.
"""

from __future__ import annotations

import re
from functools import lru_cache

from kmesh.compiler.automata import Dfa, RegexInvalid, compile_regex
from kmesh.compiler.semantics.request import Subject
from kmesh.errors import Unsupported
from kmesh.model.match import (
    MILLION,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    QueryParameterMatch,
    RangeMatch,
    RouteMatch,
    StringKind,
    StringMatch,
    TlsMatch,
)

__all__ = ["find_failing", "parse_query"]

_INTEGER = re.compile(rb"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*")
_INT64 = range(-(2**63), 2**63)
_PARAMETERS = re.compile(rb";[^/]*")
_GRPC = re.compile(rb"application/grpc(\+.*)?", re.DOTALL)


def find_failing(match: RouteMatch, subject: Subject, *, ignores_path_parameters: bool, draw: int) -> str | None:
    """The first condition that does not hold, for a person; None when all do. `draw` is below a million.

    Raises: Unsupported when everything else holds and there is a condition that nothing here can decide.
    """
    if draw >= match.per_million:
        return f"runtime_fraction: {match.per_million} of {MILLION}"
    if match.is_grpc and not any(map(_GRPC.fullmatch, subject.values("content-type"))):
        return "grpc: content-type is not gRPC's"
    for header in match.decidable_headers:
        values = subject.values(header.name)
        if not _meets_header(header, values):
            return f"header {header.name}: {_describe_header(header)}, and it is {_show(*values)}"
    parameters = parse_query(subject.path) if match.query_parameters else {}
    for parameter in match.query_parameters:
        value = parameters.get(parameter.name.encode())
        if not _meets_parameter(parameter, value):
            return f"query parameter {parameter.name}: {_describe(parameter.value)}, and it is {_show(*_some(value))}"
    if match.tls and not _meets_tls(match.tls):
        return "tls_context: the connection has no TLS"
    path = subject.bare_path
    if ignores_path_parameters:
        path = _PARAMETERS.sub(b"", path)
    if not _meets_path(match.path, path):
        return f"{match.path.kind.value} {match.path.text!r}: the path is {_show(path)}"
    if match.unsupported:
        raise Unsupported(match.unsupported[0], "match")
    return None


def parse_query(path: bytes) -> dict[bytes, bytes]:
    """Parameters as they are written, nothing decoded; of several with one name the first."""
    out: dict[bytes, bytes] = {}
    _, mark, query = path.partition(b"?")
    for part in query.split(b"&") if mark else ():
        name, _, value = part.partition(b"=")
        out.setdefault(name, value)
    return out


def _meets_path(match: PathMatch, path: bytes) -> bool:
    text = match.text.encode()
    if match.kind is PathKind.REGEX:
        return _automaton(match.text).matches(path)
    if match.ignore_case:
        text, path = text.lower(), path.lower()
    match match.kind:
        case PathKind.EXACT:
            return path == text
        case PathKind.PREFIX:
            return path.startswith(text)
        case PathKind.SEPARATED_PREFIX:
            return path.startswith(text) and path[len(text) : len(text) + 1] in (b"", b"/")


def _meets_header(match: HeaderMatch, values: tuple[bytes, ...]) -> bool:
    """One of several values is enough; inverted, none may meet the condition.

    A missing header meets none, inverted or not, unless it counts as empty or presence is what is asked for.
    """
    if not values and match.treats_missing_as_empty:
        values = (b"",)
    if isinstance(match.value, PresentMatch):
        return (bool(values) == match.value.is_present) != match.is_inverted
    if not values:
        return False
    if isinstance(match.value, RangeMatch):
        is_met = any(_meets_range(match.value, value) for value in values)
    else:
        is_met = any(_meets_string(match.value, value) for value in values)
    return is_met != match.is_inverted


def _meets_parameter(match: QueryParameterMatch, value: bytes | None) -> bool:
    if isinstance(match.value, PresentMatch):
        return (value is not None) == match.value.is_present
    return value is not None and _meets_string(match.value, value)


def _meets_string(match: StringMatch, value: bytes) -> bool:
    text = match.text.encode()
    if match.kind is StringKind.REGEX:
        return _automaton(match.text).matches(value)
    if match.ignore_case:
        text, value = text.lower(), value.lower()
    match match.kind:
        case StringKind.EXACT:
            return value == text
        case StringKind.PREFIX:
            return value.startswith(text)
        case StringKind.SUFFIX:
            return value.endswith(text)
        case StringKind.CONTAINS:
            return text in value


def _meets_range(match: RangeMatch, value: bytes) -> bool:
    """A decimal integer of 64 bits; anything else is in no range."""
    if not _INTEGER.fullmatch(value):
        return False
    number = int(value)
    return number in _INT64 and match.start <= number < match.end


def _meets_tls(match: TlsMatch) -> bool:
    """Of a connection in plaintext: no certificate is presented, and none is validated."""
    return not match.is_presented and not match.is_validated


@lru_cache(maxsize=4096)
def _automaton(pattern: str) -> Dfa:
    """Raises: Unsupported."""
    try:
        return compile_regex(pattern)
    except RegexInvalid as why:
        raise Unsupported(f"regular expression {pattern!r} ({why})", "match") from None


def _describe_header(match: HeaderMatch) -> str:
    return ("not " if match.is_inverted else "") + _describe(match.value)


def _describe(match: StringMatch | RangeMatch | PresentMatch) -> str:
    match match:
        case PresentMatch(is_present=is_present):
            return "must be present" if is_present else "must be absent"
        case RangeMatch(start=start, end=end):
            return f"must be from {start} to {end - 1}"
        case StringMatch(kind=kind, text=text, ignore_case=ignore_case):
            return f"{kind.value} {text!r}{', whatever its case' if ignore_case else ''}"


def _show(*values: bytes) -> str:
    return " and ".join(repr(value.decode(errors="backslashreplace")) for value in values) or "absent"


def _some(value: bytes | None) -> tuple[bytes, ...]:
    return () if value is None else (value,)
