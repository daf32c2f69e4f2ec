"""Route configurations of a shape and a size, and requests that take a route of them which is known.

Of one virtual host every route has a path of its own: a prefix, a whole path, a prefix up to a slash, or a prefix
and a header. Virtual hosts of five routes are such as a small service has. No route has a regular expression: Envoy
tries routes one by one, and would be slower with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Any

__all__ = ["HEAD_SIZES", "PLACES", "Ask", "Json", "Point", "Shape", "Table", "list_points", "write_head"]

Json = dict[str, Any]
HEAD_SIZES = (300, 2048)
"""Bytes of a head."""
PLACES = ("first", "middle", "last")

_STAGE = {"name": "x-stage", "string_match": {"exact": "canary"}}
_BROWSER = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0)"),
    ("X-Stage", "canary"),
)
_MORE = (
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.9,de-DE;q=0.8,de;q=0.7,en-US;q=0.6"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://www.shop.example/catalogue/shoes/running?size=42&colour=blue&sort=price-ascending&page=3"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Upgrade-Insecure-Requests", "1"),
    ("If-None-Match", 'W/"5f3c-18e1a2b3c4d5e6f708192a3b4c5d6e7f"'),
    ("Priority", "u=0, i"),
    ("X-Request-Id", "0b6f1c1e-6c39-4f2b-9a58-6d7d3f0e2a11"),
    ("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("Tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
)
_COOKIE = "session=3f9a71c04be2d85617aa90cde4f2b613; consent=all; ab=17; seen=" + "shoes-1138.coats-0472." * 100


class Shape(Enum):
    """What grows."""

    ROUTES = "routes in one virtual host"
    HOSTS = "virtual hosts of one route"
    FIVES = "virtual hosts of five routes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request's variable parts, and the route that takes it, counted over all virtual hosts."""

    place: str
    """Where its route is among all: one of PLACES, or what the asker calls it."""
    number: int
    host: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    shape: Shape
    size: int
    """Of what the shape says."""

    @property
    def name(self) -> str:
        return f"{self.size} {self.shape.value}"

    def route_config(self, answer: Callable[[int], Json]) -> Json:
        """In the JSON form of xDS; `answer` gives the action of the route with that number."""
        match self.shape:
            case Shape.ROUTES:
                hosts = [_host("shop", "*", [_match_alone(n) for n in range(self.size)], 0, answer)]
            case Shape.HOSTS:
                hosts = [self._service(n, [{"prefix": "/"}], answer) for n in range(self.size)]
            case Shape.FIVES:
                hosts = [self._service(n, _match_five(), answer) for n in range(self.size)]
        return {"name": "routes", "virtual_hosts": hosts}

    def asks(self) -> tuple[Ask, ...]:
        """Up to four for each place, for as many kinds of routes."""
        middle, end = self.size // 2, self.size
        spans = {"first": (0, 4), "middle": (middle - 2, middle + 2), "last": (end - 4, end)}
        return tuple(
            self.ask(place, number)
            for place, (start, stop) in spans.items()
            for number in range(max(start, 0), min(stop, end))
        )

    def ask(self, place: str, number: int) -> Ask:
        """For the route with that number, or of the virtual host with that number."""
        match self.shape:
            case Shape.ROUTES:
                path = f"/api/team-{number:05}/orders?page=2"
                return Ask(place=place, number=number, host=_service_name(0), path=path)
            case Shape.HOSTS:
                return Ask(place=place, number=number, host=_service_name(number), path="/api/v1/orders?page=2")
            case Shape.FIVES:
                path = "/other/orders?page=2"
                return Ask(place=place, number=5 * number + 4, host=_service_name(number), path=path)

    def _service(self, number: int, matches: list[Json], answer: Callable[[int], Json]) -> Json:
        name = _service_name(number)
        return _host(name, name, matches, number * len(matches), answer)


@dataclass(frozen=True, slots=True)
class Point:
    """What one figure is of."""

    table: str
    head: int
    """Bytes."""
    place: str

    def __str__(self) -> str:
        return f"{self.table}, head of {self.head}, {self.place}"


def list_points(tables: Iterable[Table]) -> Iterator[tuple[Point, list[Ask]]]:
    """Each with the requests that it is measured by."""
    for table, head, place in product(tables, HEAD_SIZES, PLACES):
        asks = [ask for ask in table.asks() if ask.place == place]
        if asks:
            yield Point(table.name, head, place), asks


def write_head(ask: Ask, size: int) -> bytes:
    """A GET as a browser sends it, Host in the middle, brought to `size` bytes by its cookie."""
    more = _MORE if size >= 2000 else ()
    half = len(more) // 2
    fields = [*_BROWSER, *more[:half], ("Host", ask.host), *more[half:]]
    lines = [f"GET {ask.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "Cookie: "]
    rest = size - len("\r\n".join(lines)) - len("\r\n\r\n")
    assert 32 <= rest <= len(_COOKIE), f"{rest} bytes of cookie"
    return ("\r\n".join(lines) + _COOKIE[:rest] + "\r\n\r\n").encode()


def _host(name: str, domain: str, matches: list[Json], first: int, answer: Callable[[int], Json]) -> Json:
    routes = [{"match": match, **answer(first + index)} for index, match in enumerate(matches)]
    return {"name": name, "domains": [domain], "routes": routes}


def _service_name(number: int) -> str:
    return f"service-{number:05}.shop.svc.cluster.local"


def _match_alone(number: int) -> Json:
    start = f"/api/team-{number:05}"
    kinds: tuple[Json, ...] = (
        {"prefix": f"{start}/"},
        {"path": f"{start}/orders"},
        {"path_separated_prefix": start},
        {"prefix": f"{start}/", "headers": [_STAGE]},
    )
    return kinds[number % len(kinds)]


def _match_five() -> list[Json]:
    return [
        {"path": "/health"},
        {"prefix": "/api/v2/", "headers": [_STAGE]},
        {"prefix": "/api/v1/", "query_parameters": [{"name": "debug", "present_match": True}]},
        {"path_separated_prefix": "/static"},
        {"prefix": "/"},
    ]
