"""Conditions on a request: what a route's match asks of path, headers and query. What they mean is in semantics.

Source: envoy/config/route/v3/route_components.proto, envoy/type/matcher/v3/string.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kmesh.model.route_features import PROXY_HEADER_MATCH

__all__ = ["ANY_REQUEST", "MILLION", "HeaderMatch", "PathKind", "PathMatch", "PresentMatch", "QueryParameterMatch"]
__all__ += ["RangeMatch", "RouteMatch", "StringKind", "StringMatch", "TlsMatch"]

MILLION = 1_000_000


class StringKind(Enum):
    """StringMatcher.match_pattern."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "safe_regex"
    """RE2 syntax; the whole value must match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatch:
    kind: StringKind
    text: str
    ignore_case: bool = False
    """Of ASCII letters. Never set for REGEX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeMatch:
    """A decimal integer from `start` to before `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentMatch:
    """Whether there is such a header or parameter at all, whatever its value."""

    is_present: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    name: str
    """Lower case; ":authority" for Host too."""
    value: StringMatch | RangeMatch | PresentMatch
    is_inverted: bool = False
    treats_missing_as_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParameterMatch:
    name: str
    value: StringMatch | PresentMatch


class PathKind(Enum):
    """RouteMatch.path_specifier."""

    PREFIX = "prefix"
    EXACT = "path"
    SEPARATED_PREFIX = "path_separated_prefix"
    """The text, and then the end of the path or a slash."""
    REGEX = "safe_regex"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """On the path without its query."""

    kind: PathKind = PathKind.PREFIX
    text: str = "/"
    ignore_case: bool = False
    """Of ASCII letters. Never set for REGEX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMatch:
    """Whether the client's certificate must be presented, and validated; None asks neither way."""

    is_presented: bool | None = None
    is_validated: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """Every condition must hold; the default takes every request that has a path."""

    path: PathMatch = PathMatch()
    headers: tuple[HeaderMatch, ...] = ()
    query_parameters: tuple[QueryParameterMatch, ...] = ()
    per_million: int = MILLION
    """runtime_fraction's default value: how many of a million requests the route takes, drawn for each request."""
    is_grpc: bool = False
    """Only requests whose content type is gRPC's."""
    tls: TlsMatch | None = None
    unsupported: tuple[str, ...] = ()
    """Features (kmesh.model.route_features) of conditions that nothing here can decide."""

    @property
    def decidable_headers(self) -> tuple[HeaderMatch, ...]:
        """None at all where some are on what a proxy sets: what the client sends says nothing about those."""
        return () if PROXY_HEADER_MATCH in self.unsupported else self.headers

    @property
    def matches_all(self) -> bool:
        """Nothing in it could turn a request away that has a path."""
        takes_any_path = self.path.kind is PathKind.PREFIX and self.path.text in ("", "/")
        has_conditions = self.headers or self.query_parameters or self.is_grpc or self.tls or self.unsupported
        return takes_any_path and not has_conditions and self.per_million == MILLION


ANY_REQUEST = RouteMatch()
