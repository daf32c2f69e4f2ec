"""RouteMatch: the conditions of one route.

Source: envoy/config/route/v3/route_components.proto; what is invalid was tried on the real Envoy.
"""

from __future__ import annotations

import re
from typing import Any

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
from kmesh.model.route_features import PROXY_HEADER_MATCH
from kmesh.xds.resources.field import FieldInvalid, at, clip, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.treatment import features_of

__all__ = ["decode_route_match"]

_PER_MILLION = {0: 10_000, 1: 100, 2: 1}
"""FractionalPercent.DenominatorType -> what one of it is of a million."""
_SEPARATED_PREFIX = re.compile(r"[^?#]+[^?#/]")
_DEPRECATED = {
    "exact_match": StringKind.EXACT,
    "prefix_match": StringKind.PREFIX,
    "suffix_match": StringKind.SUFFIX,
    "contains_match": StringKind.CONTAINS,
}
_SET_BY_PROXIES = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"),
        *("x-client-trace-id", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto", "x-request-id"),
    )
)
"""And x-envoy-*: Envoy adds, changes or removes them before it looks for a route."""


def decode_route_match(message: Any, path: str) -> RouteMatch:
    """From a message whose constraints hold."""
    headers_path, queries_path = under(path, "headers"), under(path, "query_parameters")
    headers = [_decode_header(entry, at(headers_path, index)) for index, entry in enumerate(message.headers)]
    queries = [_decode_query(entry, at(queries_path, index)) for index, entry in enumerate(message.query_parameters)]
    unsupported = [feature.name for feature in features_of(message, FIELDS, path)]
    if any(_is_set_by_proxies(entry.name.lower()) for entry in message.headers):
        unsupported.append(PROXY_HEADER_MATCH)
    return RouteMatch(
        path=_decode_path(message, path),
        headers=tuple(header for header in headers if header),
        query_parameters=tuple(query for query in queries if query),
        per_million=_decode_share(message),
        is_grpc=message.HasField("grpc"),
        tls=_decode_tls(message.tls_context) if message.HasField("tls_context") else None,
        unsupported=tuple(dict.fromkeys(unsupported)),
    )


def _decode_path(message: Any, path: str) -> PathMatch:
    """The default, which says nothing, where the path is for an unsupported condition to judge."""
    ignores_case = message.HasField("case_sensitive") and not message.case_sensitive.value
    match message.WhichOneof("path_specifier"):
        case "safe_regex":
            return PathMatch(kind=PathKind.REGEX, text=message.safe_regex.regex)
        case "prefix" | "path" as field:
            return PathMatch(kind=PathKind(field), text=getattr(message, field), ignore_case=ignores_case)
        case "path_separated_prefix":
            text = message.path_separated_prefix
            if not _SEPARATED_PREFIX.fullmatch(text):
                where = under(path, "path_separated_prefix")
                raise FieldInvalid(where, f"{clip(text)} needs two characters, no ? or #, and no slash at its end")
            return PathMatch(kind=PathKind.SEPARATED_PREFIX, text=text, ignore_case=ignores_case)
        case _:
            return PathMatch(kind=PathKind.PREFIX, text="")


def _decode_header(message: Any, path: str) -> HeaderMatch | None:
    """None for a custom string match, which is among the unsupported conditions."""
    value = _decode_header_value(message, path)
    if value is None:
        return None
    name = message.name.lower()
    return HeaderMatch(
        name=":authority" if name == "host" else name,
        value=value,
        is_inverted=message.invert_match,
        treats_missing_as_empty=message.treat_missing_header_as_empty,
    )


def _decode_header_value(message: Any, path: str) -> StringMatch | RangeMatch | PresentMatch | None:
    match message.WhichOneof("header_match_specifier"):
        case None:
            return PresentMatch()
        case "present_match":
            return PresentMatch(is_present=message.present_match)
        case "range_match":
            return RangeMatch(start=message.range_match.start, end=message.range_match.end)
        case "safe_regex_match":
            return StringMatch(kind=StringKind.REGEX, text=message.safe_regex_match.regex)
        case "string_match":
            return _decode_string(message.string_match, under(path, "string_match"))
        case field:
            return StringMatch(kind=_DEPRECATED[field], text=getattr(message, field))


def _decode_query(message: Any, path: str) -> QueryParameterMatch | None:
    """None for a custom string match."""
    value: StringMatch | PresentMatch | None
    match message.WhichOneof("query_parameter_match_specifier"):
        case "string_match":
            value = _decode_string(message.string_match, under(path, "string_match"))
        case "present_match":
            value = PresentMatch(is_present=message.present_match)
        case _:
            value = PresentMatch()
    return QueryParameterMatch(name=message.name, value=value) if value else None


def _decode_string(message: Any, path: str) -> StringMatch | None:
    match message.WhichOneof("match_pattern"):
        case "custom":
            return None
        case "safe_regex" if message.ignore_case:
            raise FieldInvalid(under(path, "ignore_case"), "is not for regular expressions")
        case "safe_regex":
            return StringMatch(kind=StringKind.REGEX, text=message.safe_regex.regex)
        case field:
            text = getattr(message, field)
            return StringMatch(kind=StringKind(field), text=text, ignore_case=message.ignore_case)


def _decode_share(message: Any) -> int:
    if not message.HasField("runtime_fraction"):
        return MILLION
    share = message.runtime_fraction.default_value
    return min(MILLION, int(share.numerator * _PER_MILLION[share.denominator]))


def _decode_tls(message: Any) -> TlsMatch:
    return TlsMatch(
        is_presented=message.presented.value if message.HasField("presented") else None,
        is_validated=message.validated.value if message.HasField("validated") else None,
    )


def _is_set_by_proxies(name: str) -> bool:
    return name in _SET_BY_PROXIES or name.startswith("x-envoy-")
