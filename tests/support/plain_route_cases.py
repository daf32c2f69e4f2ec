"""Random route configurations that the kernel decides whole: many routes of many conditions, plain actions only.

Beside tests.support.route_cases, which has every option and few routes. Requests have nothing unusual either, but
that some repeat a header.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kmesh.compiler.semantics import Request
from tests.support.route_cases import NO_TIMEOUT
from tests.support.route_oracle import CLUSTERS, PORT_MARK, Case

__all__ = ["make_plain_case"]

_DOMAINS = ("a.x", "B.x:80", "*.x", "*-b.x", "a.*", "a.b.*", "[::1]", "*.c.x")
_HOSTS = ("a.x", "A.X", "b.x:80", "b.x", "z.x", "a-b.x", "a.b.y", "a.y", "[::1]", "d.c.x", "q", "a.x:81")
_HOSTS += (f"a.x:{PORT_MARK.decode()}",)
_SEGMENTS = ("a", "b", "ab", "A", "v1", "v10")
_VALUES = ("a", "b", "ab", "A", "Ab", "1", "12", "-3", "", "b c", "a,b")
_NAMES = ("x-a", "x-b", "x-c", "X-D", "accept", ":method", ":path", ":authority")
_WRITTEN = ("x-a", "X-B", "x-c", "x-d", "Accept", "x-unseen")
_PARAMETERS = ("q", "r", "Q")
_REGEXES = ("{0}/[^/]+", "{0}.*", "(?i){0}", ".*{0}", "{0}(/v1?)?", "{0}|/b", r"{0}/\w*[0-9]+")
_VALUE_REGEXES = ("a.*", "[0-9]+", "a|b", "(?i)ab", ".*", "[^a]+", "b?")
_STRIPS = ("strip_any_host_port", "strip_matching_host_port")
_REQUESTS = 60

Json = dict[str, Any]


def make_plain_case(random: Random) -> Case:
    domains = [*random.sample(_DOMAINS, random.randint(0, 4)), "*"]
    size = random.choice((3, 12, 30, 90))
    routes: Json = {
        "virtual_hosts": [
            {"name": f"v{i}", "domains": [domain], "routes": _routes(random, size)}
            for i, domain in enumerate(domains)
        ]
    }
    if random.random() < 0.25:
        routes["ignore_port_in_host_matching"] = True
    options = {random.choice(_STRIPS): True} if random.random() < 0.3 else {}
    return Case(routes=routes, options=options, requests=tuple(_request(random) for _ in range(_REQUESTS)))


def _routes(random: Random, size: int) -> list[Json]:
    routes = [{"match": _match(random), **_action(random)} for _ in range(random.randint(1, size))]
    if random.random() < 0.6:
        routes.append({"match": {"prefix": "/"}, **_action(random)})
    return routes


def _match(random: Random) -> Json:
    path = _path(random)
    match: Json = {random.choice(("prefix", "prefix", "path")): path}
    if random.random() < 0.25 and path != "/":
        match = {"path_separated_prefix": path.rstrip("/")}
    elif random.random() < 0.15:
        match = {"safe_regex": {"regex": random.choice(_REGEXES).format(path)}}
    if random.random() < 0.15 and "safe_regex" not in match:
        match["case_sensitive"] = False
    if count := random.choice((0, 0, 1, 1, 2, 3)):
        match["headers"] = [_header(random) for _ in range(count)]
    if count := random.choice((0, 0, 0, 1, 2)):
        match["query_parameters"] = [_parameter(random) for _ in range(count)]
    return match


def _path(random: Random) -> str:
    segments = random.choices(_SEGMENTS, k=random.choice((0, 1, 1, 2, 2, 3)))
    return "/" + "/".join(segments) + random.choice(("", "", "/") if segments else ("",))


def _header(random: Random) -> Json:
    start = random.randint(-3, 12)
    conditions: tuple[Json, ...] = (
        {"present_match": random.random() < 0.5},
        {"range_match": {"start": start, "end": start + random.randint(1, 4)}},
        {"string_match": _string(random)},
        {"string_match": _string(random)},
        {"string_match": _string(random)},
    )
    header = {"name": random.choice(_NAMES), **random.choice(conditions)}
    for flag in ("invert_match", "treat_missing_header_as_empty"):
        if random.random() < 0.2:
            header[flag] = True
    return header


def _parameter(random: Random) -> Json:
    conditions: tuple[Json, ...] = ({"present_match": random.random() < 0.7}, {"string_match": _string(random)})
    return {"name": random.choice(_PARAMETERS), **random.choice(conditions)}


def _string(random: Random) -> Json:
    kind = random.choice(("exact", "exact", "prefix", "suffix", "contains", "safe_regex"))
    if kind == "safe_regex":
        return {kind: {"regex": random.choice(_VALUE_REGEXES)}}
    text = random.choice([value for value in (*_VALUES, "GET", "/a", "x") if value or kind == "exact"])
    return {kind: text, "ignore_case": True} if random.random() < 0.25 else {kind: text}


def _action(random: Random) -> Json:
    if random.random() < 0.9:
        return {"route": {"cluster": random.choice(CLUSTERS), **NO_TIMEOUT}}
    first, second = random.sample(CLUSTERS, 2)
    clusters = [{"name": first, "weight": 1}, {"name": second, "weight": random.choice((0, 1, 3))}]
    return {"route": {"weighted_clusters": {"clusters": clusters}, **NO_TIMEOUT}}


def _request(random: Random) -> Request:
    headers = [(name, random.choice(_VALUES)) for name in random.sample(_WRITTEN, random.randint(0, 5))]
    if headers and random.random() < 0.05:
        headers.append((random.choice(headers)[0], random.choice(_VALUES)))
    headers.insert(random.randint(0, len(headers)), ("Host", random.choice(_HOSTS)))
    return Request(
        method=random.choice((b"GET", b"GET", b"POST", b"DELETE")),
        target=(_path(random) + _query(random)).encode(),
        headers=tuple((name.encode(), value.encode()) for name, value in headers),
    )


def _query(random: Random) -> str:
    names = random.choices(_PARAMETERS, k=random.choice((0, 0, 1, 2)))
    parts = [name + random.choice(("", "=", "=a", "=b", "=ab", "=12", "=A=b")) for name in names]
    return "?" + "&".join(parts) if parts else ""
