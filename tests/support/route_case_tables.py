"""Cases that random choice would seldom make, by what they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kmesh.compiler.semantics import Request
from tests.support.route_cases import NO_TIMEOUT
from tests.support.route_oracle import Case

__all__ = ["TABLES"]


def get(target: bytes, *headers: tuple[bytes, bytes], host: bytes = b"x", method: bytes = b"GET") -> Request:
    return Request(method=method, target=target, headers=((b"Host", host), *headers))


def one_host(*routes: dict[str, Any]) -> dict[str, Any]:
    return {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": list(routes)}]}


def choose(**match: Any) -> dict[str, Any]:
    """c0 where the match holds, else c1."""
    other = {"match": {"prefix": "/"}, "route": {"cluster": "c1", **NO_TIMEOUT}}
    return one_host({"match": {"prefix": "/", **match}, "route": {"cluster": "c0", **NO_TIMEOUT}}, other)


SHOW_PATH = one_host({"match": {"prefix": ""}, "redirect": {"port_redirect": 99}})
STRINGS: tuple[dict[str, Any], ...] = (
    {"exact": "b"},
    {"exact": "c"},
    {"exact": "b,c"},
    {"exact": ""},
    {"prefix": "B", "ignore_case": True},
    {"suffix": "c"},
    {"contains": ","},
    {"safe_regex": {"regex": "b,c"}},
    {"safe_regex": {"regex": "[bc]"}},
)


def header_cases() -> Iterable[Case]:
    """Missing, empty and repeated headers, those that Envoy joins and others, under every condition and flag."""
    values: tuple[tuple[bytes, ...], ...] = ((), (b"",), (b"b",), (b"b", b"c"), (b"", b"c"), (b"5", b"b"), (b" +5",))
    conditions: list[dict[str, Any]] = [{"string_match": string} for string in STRINGS]
    conditions += [{}, {"present_match": True}, {"present_match": False}, {"range_match": {"start": -3, "end": 6}}]
    flags = [{"invert_match": a, "treat_missing_header_as_empty": b} for a in (False, True) for b in (False, True)]
    for name in ("x-a", "accept", "cookie"):
        requests = tuple(get(b"/", *((name.encode(), v) for v in vs)) for vs in values)
        for condition in conditions:
            for flag in flags:
                yield Case(routes=choose(headers=[{"name": name, **condition, **flag}]), requests=requests)


def query_cases() -> Iterable[Case]:
    queries = (b"", b"?a", b"?a=", b"?a=b", b"?b=1&a=b&a=c", b"?a=%62", b"?a=b=c", b"?&a=b", b"?%61=b", b"?A=b")
    requests = tuple(get(b"/" + query) for query in queries)
    conditions: list[dict[str, Any]] = [{"string_match": string} for string in STRINGS]
    for condition in (*conditions, {}, {"present_match": True}, {"present_match": False}):
        yield Case(routes=choose(query_parameters=[{"name": "a", **condition}]), requests=requests)


def path_cases() -> Iterable[Case]:
    """Every byte and every escape in a path, and dots in every spelling, under every way of normalising."""
    raw = [bytes((byte,)) for byte in range(0x21, 0x100) if byte not in b"?#"]
    escapes = [b"%%%02x" % byte for byte in range(256)] + [b"%2F", b"%zz", b"%1", b"%", b"%u0041", b"%25%34%31"]
    dots = b"""/a/./b /a/../b /../a /a/.. /a/. /. /.. //a /a//b /a//../b /a/%2e%2E/b /a/.%2e /a\\b /a/..\\b /a/.../b
        /a/..b /a/.b /a;/../b /%2e /a/../../.. /a/b/../../c //.. /a/..//b /a/..;/b /a/..;x/b /a/.;x/b /a/..; /a/.;
        /a/%2e%2e;/b /a/..%3b/b /a%5c..%5cb /a%2f..%2fb /..;/a /a/..,/b /a%5C%2F/b""".split()
    normalize: dict[str, Any] = {"normalize_path": True}
    yield Case(routes=SHOW_PATH, options=normalize, requests=tuple(get(b"/a" + x + b"c") for x in (*raw, *escapes)))
    for action in ("KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"):
        for is_normalized in (False, True):
            for merges in (False, True):
                options = {"normalize_path": is_normalized, "merge_slashes": merges}
                options["path_with_escaped_slashes_action"] = action
                requests = tuple(get(path + b"?x=%2f//") for path in dots)
                yield Case(routes=SHOW_PATH, options=options, requests=requests)


def host_cases() -> Iterable[Case]:
    hosts = (b"x", b"X.y", b"x:80", b"x:", b"[::1]:80", b"[::1]", b"x:8o", b"", b"x.:80", b"x.")
    hosts += (b"x.y.:443", b"a:b:80", b"x:080")
    hosts += (b"x:{port}", b"x.:{port}", b"[::1]:{port}", b"x:99999", b"*", b"x y", b"a_b", b"x|y")
    to_exact = {"match": {"prefix": ""}, "redirect": {"path_redirect": "/exact"}}
    to_any = {"match": {"prefix": ""}, "redirect": {"path_redirect": "/any"}}
    exact = {"name": "v", "domains": ["X", "[::1]"], "routes": [to_exact]}
    any_host = {"name": "w", "domains": ["*"], "routes": [to_any]}
    strips: tuple[dict[str, Any], ...] = ({}, {"strip_any_host_port": True}, {"strip_matching_host_port": True})
    for strip in strips:
        for dot in (False, True):
            for ignores in (False, True):
                for virtual_hosts in ([exact, any_host], [any_host], [exact]):
                    yield Case(
                        routes={"virtual_hosts": virtual_hosts, "ignore_port_in_host_matching": ignores},
                        options={**strip, "strip_trailing_host_dot": dot},
                        requests=tuple(get(b"/", host=host) for host in hosts),
                    )


def target_cases() -> Iterable[Case]:
    targets = b"""http://h/x http://h http://h?x http://h:80/x HTTP://H/x https://h:443/x ftp://h/x http:///x * foo
        /a#b http://u:p@h/x http://[::1]/ http://[::g]/ http://h:65535 http://h:65536/ http://h:/x http://h_x/
        http://%41/ http://h:1:2/ //x/y /x?y#z""".split()
    requests = (*map(get, targets), get(b"*", method=b"OPTIONS"), Request(target=b"/"))
    yield Case(routes=SHOW_PATH, requests=requests)


def other_cases() -> Iterable[Case]:
    types = (b"grpc", b"grpc+proto", b"grpc-web", b"grpc;a=b", b"GRPC", b"grpcx", b"grpc+")
    requests = tuple(get(b"/", (b"content-type", b"application/" + kind)) for kind in types)
    yield Case(routes=choose(grpc={}), requests=requests)
    for tls in ({"presented": True}, {"presented": False}, {"validated": True}, {"validated": False}, {}):
        yield Case(routes=choose(tls_context=tls), requests=(get(b"/"),))


TABLES: tuple[Callable[[], Iterable[Case]], ...] = (
    header_cases,
    query_cases,
    path_cases,
    host_cases,
    target_cases,
    other_cases,
)
