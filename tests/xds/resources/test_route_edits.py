"""What routes change in heads, as the model has it, and which changes are carried by name only."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.model.edits import NO_EDITS, NO_REWRITE, AddedHeader, Appending, HeaderEdits, RegexRewrite, Rewrite
from kmesh.model.route import RequireTls, Route, RouteConfiguration, VirtualHost, WeightedClusters
from kmesh.model.route_features import (
    EXTERNAL_TLS,
    FRAMING_HEADER,
    HEADER_FORMATTER,
    RAW_HEADER_VALUE,
    Place,
    classify,
)
from kmesh.xds.resources import route
from tests.support.resources import encode

REGEX = {"pattern": {"regex": "a"}, "substitution": "b"}


def decode(route_body: dict[str, Any], host: dict[str, Any] | None = None, **more: Any) -> RouteConfiguration:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "c"}, **route_body}]
    hosts = [{"name": "v", "domains": ["*"], "routes": routes, **(host or {})}]
    decoded = route.TYPE.decode(encode("RDS", {"name": "r", "virtual_hosts": hosts, **more}))[1]
    assert isinstance(decoded, RouteConfiguration)
    return decoded


def only_route(config: RouteConfiguration) -> Route:
    return config.virtual_hosts[0].routes[0]


def adding(name: str, value: str, **more: Any) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, **more}


@pytest.mark.parametrize(
    ("option", "want"),
    [
        (adding("X-A", "1"), AddedHeader(name="x-a", value="1")),
        (adding("a", "100%%"), AddedHeader(name="a", value="100%")),
        (adding("a", "1", append=True), AddedHeader(name="a", value="1")),
        (adding("a", "1", append=False), AddedHeader(name="a", value="1", appending=Appending.OVERWRITE)),
        *(
            (adding("a", "1", append_action=a.value), AddedHeader(name="a", value="1", appending=a))
            for a in Appending
        ),
        (adding("a", "", keep_empty_value=True), AddedHeader(name="a", value="")),
    ],
)
def test_added_headers(option: dict[str, Any], want: AddedHeader) -> None:
    config = decode({"request_headers_to_add": [option], "response_headers_to_add": [option]})
    assert only_route(config).edits == HeaderEdits(request_added=(want,), answer_added=(want,))


def test_an_empty_value_is_not_added() -> None:
    assert only_route(decode({"request_headers_to_add": [adding("a", "")]})).edits is NO_EDITS


def test_removed_headers_of_every_holder() -> None:
    removed = {"request_headers_to_remove": ["A"], "response_headers_to_remove": ["B"]}
    weighted = {"clusters": [{"name": "c", "weight": 1, "host_rewrite_literal": "h", **removed}]}
    config = decode({"route": {"weighted_clusters": weighted}, **removed}, removed, **removed)
    want = HeaderEdits(request_removed=("a",), answer_removed=("b",))
    host, of_route = config.virtual_hosts[0], only_route(config)
    assert isinstance(of_route.action, WeightedClusters)
    (cluster,) = of_route.action.clusters
    assert (config.edits, host.edits, of_route.edits, cluster.edits) == (want, want, want, want)
    assert cluster.host == "h"


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({"request_headers_to_add": [adding("a", "%PROTOCOL%")]}, HEADER_FORMATTER),
        ({"response_headers_to_add": [adding("a", "50%")]}, HEADER_FORMATTER),
        ({"request_headers_to_add": [{"header": {"key": "a", "raw_value": "eA=="}}]}, RAW_HEADER_VALUE),
        ({"request_headers_to_add": [adding("Content-Length", "1")]}, FRAMING_HEADER),
        ({"response_headers_to_remove": ["Transfer-Encoding"]}, FRAMING_HEADER),
    ],
)
def test_what_no_path_here_does_is_refused_by_name(body: dict[str, Any], want: str) -> None:
    names = [feature.name for feature in only_route(decode(body)).features]
    assert [name for name in names if classify(name).place is Place.REFUSED] == [want]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"request_headers_to_add": [adding(":path", "/")]}, "routes[0].request_headers_to_add[0].header.key"),
        ({"request_headers_to_remove": ["Host"]}, "routes[0].request_headers_to_remove[0]"),
        (
            {"route": {"cluster": "c", "prefix_rewrite": "/a", "regex_rewrite": REGEX}},
            "routes[0].route.regex_rewrite",
        ),
    ],
)
def test_rejects(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode(body)
    assert caught.value.path == f"virtual_hosts[0].{path}"


@pytest.mark.parametrize(
    ("action", "want"),
    [
        ({}, NO_REWRITE),
        ({"prefix_rewrite": "/p"}, Rewrite(prefix="/p")),
        ({"regex_rewrite": REGEX}, Rewrite(path_regex=RegexRewrite(pattern="a", substitution="b"))),
        ({"host_rewrite_literal": "h"}, Rewrite(host="h")),
        ({"host_rewrite_header": "X-H"}, Rewrite(host_header="x-h")),
        ({"host_rewrite_path_regex": REGEX}, Rewrite(host_regex=RegexRewrite(pattern="a", substitution="b"))),
        (
            {"host_rewrite_literal": "h", "append_x_forwarded_host": True},
            Rewrite(host="h", appends_forwarded_host=True),
        ),
    ],
)
def test_rewrites(action: dict[str, Any], want: Rewrite) -> None:
    assert only_route(decode({"route": {"cluster": "c", **action}})).rewrite == want


@pytest.mark.parametrize(
    ("action", "want"), [({}, 15.0), ({"timeout": "0s"}, None), ({"timeout": "0.250s"}, 0.25)]
)
def test_timeouts(action: dict[str, Any], want: float | None) -> None:
    assert only_route(decode({"route": {"cluster": "c", **action}})).timeout_s == want


@pytest.mark.parametrize(
    ("action", "want"), [({}, None), ({"idle_timeout": "0s"}, None), ({"idle_timeout": "2s"}, 2.0)]
)
def test_idle_timeouts(action: dict[str, Any], want: float | None) -> None:
    assert only_route(decode({"route": {"cluster": "c", **action}})).idle_timeout_s == want


def retries(retry_on: str) -> dict[str, Any]:
    predicates = [{"name": "envoy.retry_host_predicates.previous_hosts"}]
    return {"retry_on": retry_on, "num_retries": 2, "retry_host_predicate": predicates}


def test_istios_default_retries_are_of_connecting_and_those_of_the_virtual_host_hold_for_its_routes() -> None:
    default, other = retries("connect-failure,cancelled"), retries("cancelled")
    got = [
        only_route(decode({"route": {"cluster": "c", **action}}, host)).connect_retries
        for action, host in (
            ({"retry_policy": default}, {}),
            ({}, {"retry_policy": default}),
            ({"retry_policy": other}, {"retry_policy": default}),
            ({}, {}),
        )
    ]
    assert got == [2, 2, 0, 0]


@pytest.mark.parametrize("kind", RequireTls)
def test_require_tls(kind: RequireTls) -> None:
    host: VirtualHost = decode({}, {"require_tls": kind.name}).virtual_hosts[0]
    assert host.require_tls is kind
    assert (EXTERNAL_TLS in [feature.name for feature in host.features]) == (kind is RequireTls.EXTERNAL_ONLY)


def test_which_edits_win() -> None:
    assert decode({}, most_specific_header_mutations_wins=True).most_specific_edits_win
    assert not decode({}).most_specific_edits_win


def test_the_status_of_a_missing_cluster() -> None:
    action = {"cluster": "c", "cluster_not_found_response_code": "NOT_FOUND"}
    assert only_route(decode({"route": action})).no_cluster_status == 404
