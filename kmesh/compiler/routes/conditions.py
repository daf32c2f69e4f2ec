"""What a route's match asks, as conditions on fields; what the compiler knows already is no condition any more.

    headers: x-a inverted exact "b", missing as empty    header x-a: not exact "b", absent: yes
    headers: x-a present                                 header x-a: not nothing, absent: no
    grpc                                                 header content-type: exact "application/grpc" or prefix
                                                         "application/grpc+", absent: no
    tls_context, :scheme                                 always or never

The meaning is that of kmesh.compiler.semantics.conditions, which the tests hold this against.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from kmesh.compiler.automata import Budget, Integers, Kind, Pattern, Regex, Text, compile_union
from kmesh.compiler.routes.ir import PATH, Condition, FieldKind, FieldName
from kmesh.errors import Unsupported
from kmesh.model.match import (
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
from kmesh.regex import RegexInvalid, parse_regex

__all__ = ["find_conditions"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+|:method|:path|:authority")
"""Of headers that can come: RFC 9110's tokens in lower case, and what this path knows of a request without one."""
_PARAMETER_NAME = re.compile(r"[!\"$%'-<>-~]*")
"""Of query parameters that can come: printable, and none of # & =."""
_SCHEME = b"http"
"""Of every request here: targets that name another are the relay's."""
_CONTENT_TYPE = FieldName(FieldKind.HEADER, "content-type")
_GRPC = (Text(kind=Kind.EXACT, text=b"application/grpc"), Text(kind=Kind.PREFIX, text=b"application/grpc+"))
_PATH_KINDS = {
    PathKind.EXACT: Kind.EXACT,
    PathKind.PREFIX: Kind.PREFIX,
    PathKind.SEPARATED_PREFIX: Kind.SEPARATED_PREFIX,
}
_STRING_KINDS = {
    StringKind.EXACT: Kind.EXACT,
    StringKind.PREFIX: Kind.PREFIX,
    StringKind.SUFFIX: Kind.SUFFIX,
    StringKind.CONTAINS: Kind.CONTAINS,
}
_Resolved = Condition | bool


def find_conditions(match: RouteMatch, budget: Budget) -> tuple[tuple[Condition, ...] | None, bool]:
    """(what must hold, each condition once, or None where no request can match; whether that is all there is).

    Where it is not all, conditions were left out that nothing here can decide. Its share is not looked at.
    Raises: BoundExceeded.
    """
    is_complete = not match.unsupported
    conditions: dict[Condition, None] = {}
    for condition in _resolve_all(match, budget):
        match condition:
            case None:
                is_complete = False
            case False:
                return None, is_complete
            case Condition():
                conditions[condition] = None
    return tuple(conditions), is_complete


def _resolve_all(match: RouteMatch, budget: Budget) -> Iterator[_Resolved | None]:
    """None for one that nothing here can decide."""
    yield _resolve_path(match.path)
    if match.is_grpc:
        yield Condition(field=_CONTENT_TYPE, patterns=_GRPC)
    for header in match.decidable_headers:
        yield _resolve_header(header, budget)
    for parameter in match.query_parameters:
        yield _resolve_parameter(parameter)
    if match.tls:
        yield _resolve_tls(match.tls)


def _resolve_path(match: PathMatch) -> _Resolved | None:
    """Every path here begins with a slash."""
    if match.kind is PathKind.REGEX:
        return Condition(field=PATH, patterns=(Regex(pattern=match.text),)) if _is_decidable(match.text) else None
    if match.kind is PathKind.PREFIX and match.text in ("", "/"):
        return True
    text = Text(kind=_PATH_KINDS[match.kind], text=match.text.encode(), ignore_case=match.ignore_case)
    return Condition(field=PATH, patterns=(text,))


def _resolve_header(match: HeaderMatch, budget: Budget) -> _Resolved | None:
    """A missing header meets no condition, inverted or not, unless it counts as empty or presence is asked for."""
    if not _is_decidable(match.value):
        return None
    condition = _make_condition(FieldName(FieldKind.HEADER, match.name), match.value)
    condition = replace(
        condition,
        is_inverted=condition.is_inverted != match.is_inverted,
        when_absent=condition.when_absent != (match.is_inverted and isinstance(match.value, PresentMatch)),
    )
    if match.treats_missing_as_empty:
        condition = replace(condition, when_absent=_holds_for(condition, b"", budget))
    if match.name == ":scheme":
        return _holds_for(condition, _SCHEME, budget)
    return _settle(condition) if _HEADER_NAME.fullmatch(match.name) else condition.when_absent


def _resolve_parameter(match: QueryParameterMatch) -> _Resolved | None:
    if not _is_decidable(match.value):
        return None
    condition = _make_condition(FieldName(FieldKind.PARAMETER, match.name), match.value)
    return _settle(condition) if _PARAMETER_NAME.fullmatch(match.name) else condition.when_absent


def _resolve_tls(match: TlsMatch) -> bool:
    """Of a connection in plaintext: no certificate is presented, and none is validated."""
    return not match.is_presented and not match.is_validated


def _make_condition(field: FieldName, value: StringMatch | RangeMatch | PresentMatch) -> Condition:
    match value:
        case PresentMatch(is_present=is_present):
            return Condition(field=field, is_inverted=is_present, when_absent=not is_present)
        case RangeMatch(start=start, end=end):
            return Condition(field=field, patterns=(Integers(start=start, end=end),))
        case StringMatch():
            return Condition(field=field, patterns=(_make_pattern(value),))
        case _:
            assert_never(value)


def _make_pattern(match: StringMatch) -> Pattern:
    if match.kind is StringKind.REGEX:
        return Regex(pattern=match.text)
    return Text(kind=_STRING_KINDS[match.kind], text=match.text.encode(), ignore_case=match.ignore_case)


def _is_decidable(value: str | StringMatch | RangeMatch | PresentMatch) -> bool:
    """Anything but a regular expression that only RE2 knows, or not even RE2."""
    if isinstance(value, StringMatch) and value.kind is StringKind.REGEX:
        value = value.text
    if isinstance(value, str):
        try:
            parse_regex(value)
        except (RegexInvalid, Unsupported):
            return False
    return True


def _holds_for(condition: Condition, value: bytes, budget: Budget) -> bool:
    """Raises: BoundExceeded."""
    is_hit = bool(condition.patterns) and compile_union(condition.patterns, budget).matches(value)
    return is_hit != condition.is_inverted


def _settle(condition: Condition) -> _Resolved:
    """Without patterns, what holds with a value and without one is no condition."""
    if not condition.patterns and (condition.is_inverted == condition.when_absent or condition.field.always_comes):
        return condition.is_inverted
    return condition
