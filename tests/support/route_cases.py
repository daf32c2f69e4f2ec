"""Random route configurations and requests, dense in the cases that matter: few names, paths and values, all kinds.

Also how a failing case is made small, and kept.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from kmesh.compiler.semantics import Request
from kmesh.errors import ResourceInvalid
from tests.support.route_oracle import CLUSTERS, PORT_MARK, Case, decode_case

__all__ = ["NO_TIMEOUT", "make_case", "read_case", "shrink_once", "write_case"]

_DOMAINS = ("*", "a.x", "A.Y", "*.x", "*b.x", "a.*", "a.b*", "*a", "a.x:80", "[::1]", "b", "*:80", "a:*")
_HOSTS = ("a.x", "A.x", "ab.x", "b.x", "a.b.x", "a.y", "a.bc", "a.x:80", "b:81", "[::1]", "[::1]:80", "b.", "c")
_HOSTS += (f"b:{PORT_MARK.decode()}",)
_TEXTS = ("a", "b", "ab", "A", "aB", "1", "12", "a,b", "", "b c", "-1")
_PATHS = ("/", "/a", "/A", "/ab", "/a/", "/a/b", "/a/bc", "/b", "/b/a", "/a;x", "/a;x/b", "/a//b", "/a/./b")
_PATHS += ("/a/../b", "/a%2Fb", "/%61", "/a%2fb/..;/c", "//a", "/b\\a", "/a%25", "/a.b", "/AB/c")
_QUERIES = ("", "", "?", "?q", "?q=a", "?q=ab&q=b", "?r&q=1", "?Q=a", "?q=%61", "?q=a=b&r=b", "?&q=12", "?q=a;b")
_PATH_REGEXES = ("/a.*", "/[ab]+", "/(a|b)/?.*", ".*b", "/a/[^/]+", "(?i)/AB.*", "/a(/b)?", r"/\w+", "/a;x|/b")
_TEXT_REGEXES = ("a.*", "[0-9]+", "a|b", "(?i)ab", ".*", "[^a]+", "b?", "a,b")
_NAMES = ("x-a", "X-B", "user-agent", "content-type", "accept", ":method", ":path", ":authority", ":scheme", "host")
_WRITTEN = ("x-a", "x-b", "X-A", "user-agent", "accept", "content-type", "x-c")
_ESCAPED_SLASHES = ("KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD")
_CODES = ("MOVED_PERMANENTLY", "FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT")
NO_TIMEOUT = {"timeout": "0s"}
"""As istiod writes it; the default of 15 s is for the relay to keep."""
_REQUESTS = 25

Json = dict[str, Any]


def make_case(random: Random) -> Case:
    domains = random.sample(_DOMAINS[1:], random.randint(1, 5)) + random.choice(([], ["*"], ["*"]))
    hosts: list[Json] = [
        {"name": f"v{i}", "domains": [d], "routes": _routes(random)} for i, d in enumerate(domains)
    ]
    if len(hosts) > 2 and random.random() < 0.5:
        hosts[0]["domains"] += hosts.pop()["domains"]
    routes: Json = {"virtual_hosts": hosts}
    for option in ("ignore_port_in_host_matching", "ignore_path_parameters_in_path_matching"):
        if random.random() < 0.25:
            routes[option] = True
    requests = tuple(_request(random) for _ in range(_REQUESTS))
    return Case(routes=routes, options=_options(random), requests=requests)


def _options(random: Random) -> Json:
    options: Json = {}
    if random.random() < 0.25:
        options["path_with_escaped_slashes_action"] = random.choice(_ESCAPED_SLASHES)
    for name in ("normalize_path", "merge_slashes", "strip_trailing_host_dot"):
        if random.random() < 0.25:
            options[name] = True
    if random.random() < 0.4:
        options[random.choice(("strip_any_host_port", "strip_matching_host_port"))] = True
    return options


def _routes(random: Random) -> list[Json]:
    routes = [{"match": _match(random), **_action(random)} for _ in range(random.choice((0, 1, 2, 3, 4, 5, 5)))]
    if random.random() < 0.6:
        routes.append({"match": {"prefix": "/"}, **_action(random)})
    return routes


def _match(random: Random) -> Json:
    match: Json = random.choice(
        (
            {"prefix": random.choice((*_PATHS, "", "/"))},
            {"prefix": "/"},
            {"prefix": "/a"},
            {"path": random.choice(_PATHS)},
            {"path_separated_prefix": random.choice(("/a", "/A", "/a/b", "/b", "/a;x"))},
            {"safe_regex": {"regex": random.choice(_PATH_REGEXES)}},
        )
    )
    match = dict(match)
    if random.random() < 0.3:
        match["case_sensitive"] = random.random() < 0.5
    if random.random() < 0.3:
        match["headers"] = [_header(random) for _ in range(random.randint(1, 2))]
    if random.random() < 0.25:
        match["query_parameters"] = [_parameter(random) for _ in range(random.randint(1, 2))]
    if random.random() < 0.05:
        match["grpc"] = {}
    if random.random() < 0.05:
        match["tls_context"] = {random.choice(("presented", "validated")): random.random() < 0.5}
    if random.random() < 0.05:
        match["runtime_fraction"] = {"default_value": {"numerator": random.choice((0, 100))}}
    return match


def _header(random: Random) -> Json:
    start = random.randint(-2, 12)
    kinds: tuple[Json, ...] = (
        {},
        {"present_match": random.random() < 0.5},
        {"range_match": {"start": start, "end": start + random.randint(0, 3)}},
        {"exact_match": random.choice(_TEXTS[:-3])},
        {random.choice(("prefix_match", "suffix_match", "contains_match")): random.choice(_TEXTS[:5])},
        {"safe_regex_match": {"regex": random.choice(_TEXT_REGEXES)}},
        {"string_match": _string(random)},
        {"string_match": _string(random)},
    )
    header = {"name": random.choice(_NAMES), **random.choice(kinds)}
    for flag in ("invert_match", "treat_missing_header_as_empty"):
        if random.random() < 0.3:
            header[flag] = True
    return header


def _parameter(random: Random) -> Json:
    kinds: tuple[Json, ...] = ({"present_match": random.random() < 0.8}, {"string_match": _string(random)})
    return {"name": random.choice(("q", "r", "Q")), **random.choice(kinds)}


def _string(random: Random) -> Json:
    if random.random() < 0.2:
        return {"safe_regex": {"regex": random.choice(_TEXT_REGEXES)}}
    kind = random.choice(("exact", "prefix", "suffix", "contains"))
    text = random.choice([t for t in (*_TEXTS, "GET", "/a", "a.x", "http") if t or kind == "exact"])
    return {kind: text, **({"ignore_case": True} if random.random() < 0.3 else {})}


def _action(random: Random) -> Json:
    weighted = [{"name": c, "weight": random.choice((0, 1, 5))} for c in random.sample(CLUSTERS, 2)]
    weighted[0]["weight"] = 1
    kinds: tuple[Json, ...] = (
        {"route": {"cluster": random.choice(CLUSTERS), **NO_TIMEOUT}},
        {"route": {"cluster": random.choice(CLUSTERS), **NO_TIMEOUT}},
        {"route": {"cluster": random.choice(CLUSTERS)}},
        {"route": {"weighted_clusters": {"clusters": weighted, "total_weight": 100}, **NO_TIMEOUT}},
        {"route": {"cluster_header": "x-c"}},
        {"route": {"cluster": "missing", **NO_TIMEOUT}},
        {"direct_response": {"status": random.choice((200, 404, 418, 503))}},
        {"redirect": _redirect(random)},
        {"redirect": _redirect(random)},
        {"non_forwarding_action": {}},
    )
    return random.choice(kinds)


def _redirect(random: Random) -> Json:
    parts: tuple[Json, ...] = (
        {"https_redirect": True},
        {"scheme_redirect": random.choice(("ftp", "http"))},
        {"host_redirect": "other"},
        {"port_redirect": random.choice((80, 8443))},
        {"path_redirect": random.choice(("/new", "/new?x"))},
        {"prefix_rewrite": random.choice(("/new", "/new/"))},
        {"strip_query": True},
        {"response_code": random.choice(_CODES)},
    )
    redirect: Json = {}
    for part in random.sample(parts, random.randint(1, 4)):
        rivals = {"https_redirect": "scheme_redirect", "path_redirect": "prefix_rewrite"}
        rivals |= {b: a for a, b in rivals.items()}
        if not any(rivals.get(name) in redirect for name in part):
            redirect |= part
    return redirect


def _request(random: Random) -> Request:
    target = random.choice(_PATHS) + random.choice(_QUERIES)
    if random.random() < 0.05:
        target = f"http://{random.choice(_HOSTS)}{target}"
    headers = [("Host", random.choice(_HOSTS))]
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        headers.append((random.choice(_WRITTEN), random.choice((*_TEXTS, "application/grpc", *CLUSTERS))))
    random.shuffle(headers)
    return Request(
        method=random.choice((b"GET", b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS")),
        target=target.encode(),
        headers=tuple((name.encode(), value.encode()) for name, value in headers),
    )


# Small cases


def shrink_once(case: Case) -> Iterator[Case]:
    """Valid cases with one part less."""
    for option in case.options:
        yield _with(case, options={k: v for k, v in case.options.items() if k != option})
    for routes in _without_one(case.routes):
        smaller = _with(case, routes=routes)
        if _is_valid(smaller):
            yield smaller
    for request in case.requests:
        for index in range(len(request.headers)):
            headers = request.headers[:index] + request.headers[index + 1 :]
            yield _with(case, requests=(Request(method=b"GET", target=request.target, headers=headers),))


def _with(case: Case, **changes: Any) -> Case:
    return Case(**{"routes": case.routes, "options": case.options, "requests": case.requests, **changes})


def _is_valid(case: Case) -> bool:
    try:
        decode_case(case)
    except ResourceInvalid:
        return False
    return True


def _without_one(value: Any) -> Iterator[Any]:
    """Copies of a JSON value, each without one member somewhere inside."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        smaller = copy.copy(value)
        del smaller[key]
        yield smaller
        for inner in _without_one(value[key]):
            changed = copy.copy(value)
            changed[key] = inner
            yield changed


def write_case(path: Path, case: Case) -> None:
    requests = [
        {
            "method": request.method.decode(),
            "target": request.target.decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
        }
        for request in case.requests
    ]
    document = {"routes": case.routes, "options": case.options, "requests": requests}
    path.write_text(json.dumps(document, indent=2) + "\n")


def read_case(path: Path) -> Case:
    document = json.loads(path.read_text())
    requests = tuple(
        Request(
            method=request["method"].encode(),
            target=request["target"].encode("latin-1"),
            headers=tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in request["headers"]),
        )
        for request in document["requests"]
    )
    return Case(routes=document["routes"], options=document["options"], requests=requests)
