"""Random virtual hosts that decide everything by themselves, and subjects that meet their conditions often."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from kmesh.compiler.semantics import Subject
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
from kmesh.model.route import ClusterAction, Route, VirtualHost

__all__ = ["make_host", "make_long_host", "make_subject"]

_TEXTS = ("a", "b", "ab", "A", "ba", "1", "12", "-3", "", "application/grpc", "application/grpc+x")
_REGEXES = ("a.*", ".*b", "[0-9]+", "a|b", "(?i)ab", ".*", "b?", ".*a.*")
_PATH_REGEXES = ("/a.*", ".*b", "/[ab]+", "(?i)/AB", "/a/[^/]*")
_HEADERS = ("x-a", "x-a", "x-b", "x-c", "content-type", ":method", ":path", ":authority", ":scheme", ":protocol")
_HEADERS += ("x y",)
_PARAMETERS = ("q", "r", "", "a=b")
_SEGMENTS = ("a", "b", "ab", "A", "1")
_SHARES = (MILLION,) * 12 + (500_000, 1, 999_999, 0)


def make_host(random: Random, size: int) -> VirtualHost:
    routes = [_make_route(random, number) for number in range(size)]
    return _with_last(random, routes)


def make_long_host(random: Random, size: int) -> VirtualHost:
    """Whose routes each take little, and all that meets their conditions."""
    routes = []
    while len(routes) < size:
        match = replace(_make_route(random, 0).match, per_million=MILLION)
        is_wide = match.path.kind is PathKind.REGEX or len(match.path.text) < 3
        if not is_wide or len(match.headers) + len(match.query_parameters) > 1:
            routes.append(Route(match=match, action=ClusterAction(cluster=f"c{len(routes)}")))
    return _with_last(random, routes)


def _with_last(random: Random, routes: list[Route]) -> VirtualHost:
    """Half of the time there is a route for every request."""
    if random.random() < 0.5:
        routes = [*routes, Route(action=ClusterAction(cluster="last"))]
    return VirtualHost(name="v", domains=("*",), routes=tuple(routes))


def make_subject(random: Random) -> Subject:
    headers: dict[str, tuple[bytes, ...]] = {}
    for name in ("x-a", "x-b", "x-c"):
        if random.random() < 0.6:
            headers[name] = tuple(_text(random).encode() for _ in range(random.choice((1, 1, 1, 2))))
    if random.random() < 0.4:
        headers["content-type"] = (_text(random).encode(),)
    query = random.choice(("", "", "?", "?q=a", "?q=ab&q=b", "?r&q=1", "?=a", "?q&r=12"))
    return Subject(
        method=random.choice((b"GET", b"POST")),
        authority=random.choice((b"a", b"b:80")),
        path=(_path(random) + query).encode(),
        headers=headers,
    )


def _make_route(random: Random, number: int) -> Route:
    match = RouteMatch(
        path=_make_path(random),
        headers=tuple(_make_header(random) for _ in range(random.choice((0, 0, 1, 1, 2, 3)))),
        query_parameters=tuple(_make_parameter(random) for _ in range(random.choice((0, 0, 0, 1, 2)))),
        per_million=random.choice(_SHARES),
        is_grpc=random.random() < 0.05,
        tls=TlsMatch(is_presented=random.random() < 0.5) if random.random() < 0.05 else None,
    )
    return Route(match=match, action=ClusterAction(cluster=f"c{number}"))


def _make_path(random: Random) -> PathMatch:
    kind = random.choice((*PathKind, PathKind.EXACT, PathKind.PREFIX))
    if kind is PathKind.REGEX:
        return PathMatch(kind=kind, text=random.choice(_PATH_REGEXES))
    text = "/" if random.random() < 0.15 else _path(random)
    return PathMatch(kind=kind, text=text, ignore_case=random.random() < 0.2)


def _path(random: Random) -> str:
    return "".join(f"/{random.choice(_SEGMENTS)}" for _ in range(random.choice((1, 1, 2, 3))))


def _make_header(random: Random) -> HeaderMatch:
    value: StringMatch | RangeMatch | PresentMatch = _make_string(random)
    if random.random() < 0.3:
        value = random.choice((PresentMatch(), PresentMatch(is_present=False), RangeMatch(start=-5, end=13)))
    return HeaderMatch(
        name=random.choice(_HEADERS),
        value=value,
        is_inverted=random.random() < 0.3,
        treats_missing_as_empty=random.random() < 0.3,
    )


def _make_parameter(random: Random) -> QueryParameterMatch:
    present = PresentMatch(is_present=random.random() < 0.5)
    return QueryParameterMatch(
        name=random.choice(_PARAMETERS), value=random.choice((present, _make_string(random), _make_string(random)))
    )


def _make_string(random: Random) -> StringMatch:
    kind = random.choice(tuple(StringKind))
    if kind is StringKind.REGEX:
        return StringMatch(kind=kind, text=random.choice(_REGEXES))
    return StringMatch(kind=kind, text=_text(random), ignore_case=random.random() < 0.2)


def _text(random: Random) -> str:
    return random.choice(_TEXTS)
