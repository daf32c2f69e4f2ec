"""Random route configurations of tests.support.route_cases, and on top of them what changes heads.

None of the requests is gRPC's: Envoy's own answers to those have another form, and gRPC is HTTP/2.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.support.route_cases import make_case
from tests.support.route_oracle import Case

__all__ = ["make_relay_case"]

_NAMES = ("x-a", "X-B", "user-agent", "x-forwarded-host", "content-type", "x-new")
_VALUES = ("1", "two words", "100%%", "", "a,b")
_APPEND_ACTIONS = ("APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS")
_REGEXES = ("a", "/a(/.*)?", "^/(.*)$", "b*", "([^/]+)/([^/]+)", "x")
_SUBSTITUTIONS = ("", "/n", r"/v\1", r"/\2/\1", r"\0\0", r"z\\", r"/\q", "/two words")
_PREFIXES = ("/", "/new", "/new/", "/a", "new")

Json = dict[str, Any]


def make_relay_case(random: Random) -> Case:
    case = make_case(random)
    routes: Json = {**case.routes, **_edits(random)}
    if random.random() < 0.5:
        routes["most_specific_header_mutations_wins"] = True
    for host in routes["virtual_hosts"]:
        host.update(_edits(random))
        if random.random() < 0.1:
            host["require_tls"] = "ALL"
        for route in host["routes"]:
            route.update(_edits(random))
            _decorate_action(random, route)
    of_grpc = (b"content-type", b"application/grpc")
    requests = tuple(request for request in case.requests if of_grpc not in request.headers)
    return Case(routes=routes, options=case.options, requests=requests)


def _decorate_action(random: Random, route: Json) -> None:
    if "route" in route:
        action = route["route"] = {**route["route"], **_rewrite(random)}
        for entry in action.get("weighted_clusters", {}).get("clusters", ()):
            entry.update(_edits(random))
            if random.random() < 0.3:
                entry["host_rewrite_literal"] = "of.the.cluster"
        if random.random() < 0.2:
            action["cluster_not_found_response_code"] = random.choice(("NOT_FOUND", "INTERNAL_SERVER_ERROR"))
    elif "redirect" in route and not {"path_redirect", "prefix_rewrite"} & route["redirect"].keys():
        route["redirect"] = {**route["redirect"], **_path_of_redirect(random)}
    elif "direct_response" in route:
        status = random.choice((200, 201, 302, 404, 503))
        route["direct_response"] = {"status": status}
        if random.random() < 0.5:
            route["direct_response"]["body"] = {"inline_string": "text"}


def _path_of_redirect(random: Random) -> Json:
    return random.choice(
        (
            {},
            {"regex_rewrite": _regex_rewrite(random)},
            {"prefix_rewrite": random.choice(_PREFIXES)},
            {"path_redirect": "new"},
        )
    )


def _rewrite(random: Random) -> Json:
    rewrite: Json = random.choice(
        (
            {},
            {"prefix_rewrite": random.choice(_PREFIXES)},
            {"regex_rewrite": _regex_rewrite(random)},
        )
    )
    rewrite = rewrite | random.choice(
        (
            {},
            {"host_rewrite_literal": "literal"},
            {"host_rewrite_header": random.choice(("x-a", "X-New"))},
            {"host_rewrite_path_regex": _regex_rewrite(random)},
        )
    )
    return rewrite | ({"append_x_forwarded_host": True} if random.random() < 0.5 else {})


def _regex_rewrite(random: Random) -> Json:
    return {"pattern": {"regex": random.choice(_REGEXES)}, "substitution": random.choice(_SUBSTITUTIONS)}


def _edits(random: Random) -> Json:
    edits: Json = {}
    for kind in ("request", "response"):
        if random.random() < 0.3:
            edits[f"{kind}_headers_to_add"] = [_added(random) for _ in range(random.randint(1, 3))]
        if random.random() < 0.2:
            edits[f"{kind}_headers_to_remove"] = [random.choice(_NAMES)]
    return edits


def _added(random: Random) -> Json:
    added: Json = {"header": {"key": random.choice(_NAMES), "value": random.choice(_VALUES)}}
    how = random.random()
    if how < 0.5:
        added["append_action"] = random.choice(_APPEND_ACTIONS)
    elif how < 0.7:
        added["append"] = random.random() < 0.5
    if random.random() < 0.2:
        added["keep_empty_value"] = True
    return added
