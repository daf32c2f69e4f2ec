"""RouteConfiguration: conditions, actions and features, and what of them is invalid."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.model.limitation import Effect
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
from kmesh.model.route import (
    Action,
    ClusterAction,
    ClusterHeader,
    DirectResponse,
    OtherAction,
    Redirect,
    RegexRewrite,
    Route,
    RouteConfiguration,
    WeightedClusters,
)
from kmesh.model.route_features import DEFAULT_RETRY, NO_TIMEOUT, PROXY_HEADER_MATCH
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.xds.resources.route import TYPE
from tests.support.resources import encode, route_to, typed

HEADER = {"header": {"key": "a", "value": "b"}}
PER_FILTER = {"x": typed("udpa.type.v1.TypedStruct", type_url="x/my.Filter")["typed_config"]}


def decode(*routes: dict[str, Any], host: dict[str, Any] | None = None, **more: Any) -> RouteConfiguration:
    hosts = [{"name": "v", "domains": ["*"], "routes": list(routes), **(host or {})}]
    got = TYPE.decode(encode("RDS", {"name": "r", "virtual_hosts": hosts, **more}))[1]
    assert isinstance(got, RouteConfiguration)
    return got


def decode_route(body: dict[str, Any]) -> Route:
    return decode(body).virtual_hosts[0].routes[0]


def test_route_to_a_cluster() -> None:
    got = decode_route(route_to("c") | {"name": "n", "metadata": {}, "decorator": {"operation": "x"}})
    assert (got.name, got.match, got.action) == ("n", RouteMatch(), ClusterAction(cluster="c"))
    assert [feature.name for feature in got.features] == [NO_TIMEOUT]
    assert got.limitations == ()


ISTIO_RETRY = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": 2,
    "retry_host_predicate": [
        typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")
        | {"name": "envoy.retry_host_predicates.previous_hosts"}
    ],
    "host_selection_retry_max_attempts": "5",
}


@pytest.mark.parametrize(
    ("policy", "want"),
    [
        pytest.param(ISTIO_RETRY, DEFAULT_RETRY, id="istiod's"),
        pytest.param({**ISTIO_RETRY, "retriable_status_codes": [503]}, DEFAULT_RETRY, id="istiod's with 503"),
        pytest.param({**ISTIO_RETRY, "retry_on": "unavailable, cancelled"}, DEFAULT_RETRY, id="less"),
        pytest.param({**ISTIO_RETRY, "retriable_status_codes": [500]}, "RouteAction.retry_policy", id="other codes"),
        pytest.param({**ISTIO_RETRY, "retry_on": "5xx"}, "RouteAction.retry_policy", id="other conditions"),
        pytest.param({**ISTIO_RETRY, "num_retries": 3}, "RouteAction.retry_policy", id="more often"),
        pytest.param({**ISTIO_RETRY, "per_try_timeout": "1s"}, "RouteAction.retry_policy", id="with a timeout"),
        pytest.param({"retry_on": "connect-failure"}, "RouteAction.retry_policy", id="not istiod's"),
    ],
)
def test_retry_policy(policy: dict[str, Any], want: str) -> None:
    got = decode_route(route_to(retry_policy=policy, max_stream_duration={"max_stream_duration": "0s"}))
    assert got.action == ClusterAction(cluster="c")
    assert [feature.name for feature in got.features] == [NO_TIMEOUT, want]
    assert [(limit.feature, limit.effect) for limit in got.limitations] == [(want, Effect.UNENFORCED)]


@pytest.mark.parametrize(
    ("action", "want"),
    [
        pytest.param({}, ["RouteAction.timeout"], id="absent: 15 s"),
        pytest.param({"timeout": "0s"}, [], id="off"),
        pytest.param({"timeout": "3s"}, ["RouteAction.timeout"], id="3 s"),
    ],
)
def test_timeout(action: dict[str, Any], want: list[str]) -> None:
    got = decode_route({"match": {"prefix": "/"}, "route": {"cluster": "c", **action}})
    assert [limit.feature for limit in got.limitations] == want


@pytest.mark.parametrize(
    ("match", "want"),
    [
        ({"prefix": "/"}, True),
        ({"prefix": ""}, True),
        ({"prefix": "/", "case_sensitive": False}, True),
        ({"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 100}}}, True),
        ({"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 99}}}, False),
        ({"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 100, "denominator": 2}}}, False),
        (
            {
                "prefix": "/",
                "dynamic_metadata": [{"filter": "f", "path": [{"key": "a"}], "value": {"present_match": True}}],
            },
            False,
        ),
        ({"prefix": "/a"}, False),
        ({"path": "/"}, False),
        ({"path_separated_prefix": "/a"}, False),
        ({"safe_regex": {"regex": ".*"}}, False),
        ({"connect_matcher": {}}, False),
        ({"prefix": "/", "headers": [{"name": "a", "present_match": True}]}, False),
        ({"prefix": "/", "query_parameters": [{"name": "a", "present_match": True}]}, False),
        ({"prefix": "/", "grpc": {}}, False),
        ({"prefix": "/", "tls_context": {"presented": True}}, False),
    ],
)
def test_matches_all(match: dict[str, Any], want: bool) -> None:
    assert decode_route(route_to() | {"match": match}).matches_all is want


def text(kind: StringKind, value: str, *, ignore_case: bool = False) -> StringMatch:
    return StringMatch(kind=kind, text=value, ignore_case=ignore_case)


@pytest.mark.parametrize(
    ("match", "want"),
    [
        ({"prefix": "/a"}, PathMatch(kind=PathKind.PREFIX, text="/a")),
        ({"path": "/a", "case_sensitive": False}, PathMatch(kind=PathKind.EXACT, text="/a", ignore_case=True)),
        ({"path": "/a", "case_sensitive": True}, PathMatch(kind=PathKind.EXACT, text="/a")),
        ({"path_separated_prefix": "/a"}, PathMatch(kind=PathKind.SEPARATED_PREFIX, text="/a")),
        ({"safe_regex": {"regex": "/a.*"}, "case_sensitive": False}, PathMatch(kind=PathKind.REGEX, text="/a.*")),
    ],
)
def test_path(match: dict[str, Any], want: PathMatch) -> None:
    assert decode_route(route_to() | {"match": match}).match == RouteMatch(path=want)


@pytest.mark.parametrize(
    ("header", "want"),
    [
        ({}, PresentMatch()),
        ({"present_match": False}, PresentMatch(is_present=False)),
        ({"range_match": {"start": "-1", "end": "5"}}, RangeMatch(start=-1, end=5)),
        ({"exact_match": "b"}, text(StringKind.EXACT, "b")),
        ({"prefix_match": "b"}, text(StringKind.PREFIX, "b")),
        ({"suffix_match": "b"}, text(StringKind.SUFFIX, "b")),
        ({"contains_match": "b"}, text(StringKind.CONTAINS, "b")),
        ({"safe_regex_match": {"regex": "b+"}}, text(StringKind.REGEX, "b+")),
        ({"string_match": {"exact": ""}}, text(StringKind.EXACT, "")),
        ({"string_match": {"prefix": "B", "ignore_case": True}}, text(StringKind.PREFIX, "B", ignore_case=True)),
        ({"string_match": {"safe_regex": {"regex": "b"}}}, text(StringKind.REGEX, "b")),
    ],
)
def test_header(header: dict[str, Any], want: StringMatch | RangeMatch | PresentMatch) -> None:
    got = decode_route(route_to() | {"match": {"prefix": "/", "headers": [{"name": "X-A", **header}]}})
    assert got.match.headers == (HeaderMatch(name="x-a", value=want),)


def test_header_flags() -> None:
    flags = {"name": "Host", "invert_match": True, "treat_missing_header_as_empty": True}
    got = decode_route(route_to() | {"match": {"prefix": "/", "headers": [flags]}}).match.headers
    assert got == (
        HeaderMatch(name=":authority", value=PresentMatch(), is_inverted=True, treats_missing_as_empty=True),
    )


@pytest.mark.parametrize(
    ("parameter", "want"),
    [
        ({}, PresentMatch()),
        ({"present_match": True}, PresentMatch()),
        ({"string_match": {"suffix": "b"}}, text(StringKind.SUFFIX, "b")),
    ],
)
def test_query_parameter(parameter: dict[str, Any], want: StringMatch | PresentMatch) -> None:
    got = decode_route(route_to() | {"match": {"prefix": "/", "query_parameters": [{"name": "Q", **parameter}]}})
    assert got.match.query_parameters == (QueryParameterMatch(name="Q", value=want),)


@pytest.mark.parametrize(
    ("match", "want"),
    [
        ({"grpc": {}}, RouteMatch(is_grpc=True)),
        ({"tls_context": {"presented": True}}, RouteMatch(tls=TlsMatch(is_presented=True))),
        ({"tls_context": {"validated": False}}, RouteMatch(tls=TlsMatch(is_validated=False))),
        ({"runtime_fraction": {"default_value": {"numerator": 5}}}, RouteMatch(per_million=50_000)),
        ({"runtime_fraction": {"default_value": {"numerator": 5, "denominator": 1}}}, RouteMatch(per_million=500)),
        ({"runtime_fraction": {"default_value": {"numerator": 200}}}, RouteMatch()),
    ],
)
def test_other_conditions(match: dict[str, Any], want: RouteMatch) -> None:
    assert decode_route(route_to() | {"match": {"prefix": "/", **match}}).match == want


@pytest.mark.parametrize(
    ("match", "want"),
    [
        pytest.param({"connect_matcher": {}}, "RouteMatch.connect_matcher", id="connect"),
        pytest.param({"prefix": "/", "headers": [{"name": "X-Request-Id"}]}, PROXY_HEADER_MATCH, id="proxy's header"),
        pytest.param({"prefix": "/", "headers": [{"name": "x-envoy-any"}]}, PROXY_HEADER_MATCH, id="x-envoy"),
        pytest.param(
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "a",
                        "string_match": {"custom": typed("udpa.type.v1.TypedStruct", type_url="x/my.Matcher")},
                    }
                ],
            },
            "StringMatcher.custom",
            id="custom string match",
        ),
    ],
)
def test_unsupported_conditions(match: dict[str, Any], want: str) -> None:
    got = decode_route(route_to() | {"match": match}).match
    assert got.unsupported == (want,)
    assert not got.matches_all


REWRITE = {"pattern": {"regex": "a"}, "substitution": "b"}


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({"redirect": {"https_redirect": True}}, Redirect(scheme="https")),
        ({"redirect": {"scheme_redirect": "ftp", "response_code": "SEE_OTHER"}}, Redirect(scheme="ftp", status=303)),
        (
            {"redirect": {"host_redirect": "h", "port_redirect": 8, "path_redirect": "/p", "strip_query": True}},
            Redirect(host="h", port=8, path="/p", strips_query=True),
        ),
        ({"redirect": {"prefix_rewrite": "/p"}}, Redirect(prefix_rewrite="/p")),
        (
            {"redirect": {"regex_rewrite": REWRITE}},
            Redirect(regex_rewrite=RegexRewrite(pattern="a", substitution="b")),
        ),
        (
            {"direct_response": {"status": 404, "body": {"inline_string": "b"}}},
            DirectResponse(status=404, body=b"b"),
        ),
        ({"non_forwarding_action": {}}, OtherAction(feature="Route.non_forwarding_action")),
        ({"route": {"cluster_header": "X-C"}}, ClusterHeader(header="x-c")),
        ({"route": {"cluster_specifier_plugin": "p"}}, OtherAction(feature="RouteAction.cluster_specifier_plugin")),
    ],
)
def test_actions(body: dict[str, Any], want: Action) -> None:
    assert decode_route({"match": {"prefix": "/"}, **body}).action == want


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param({"route": {"cluster": "c", "prefix_rewrite": "/"}}, "RouteAction.prefix_rewrite", id="rewrite"),
        pytest.param(
            {"route": {"cluster": "c", "host_rewrite_literal": "h"}}, "RouteAction.host_rewrite_literal", id="host"
        ),
        pytest.param(
            {"route": {"cluster": "c", "auto_host_rewrite": True}}, "RouteAction.auto_host_rewrite", id="auto host"
        ),
        pytest.param({"route": {"cluster": "c", "metadata_match": {}}}, "RouteAction.metadata_match", id="subset"),
        pytest.param(
            {"route": {"cluster": "c", "hash_policy": [{"header": {"header_name": "a"}}]}},
            "RouteAction.hash_policy",
            id="hash",
        ),
        pytest.param(
            {"route": {"cluster": "c", "request_mirror_policies": [{"cluster": "d"}]}},
            "RouteAction.request_mirror_policies",
            id="mirror",
        ),
        pytest.param(
            {"route": {"cluster": "c", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}},
            "UpgradeConfig.connect_config",
            id="connect",
        ),
        pytest.param(
            {"route": {"cluster": "c"}, "request_headers_to_add": [HEADER]}, "Route.request_headers_to_add", id="hdr"
        ),
        pytest.param(
            {"route": {"cluster": "c"}, "typed_per_filter_config": PER_FILTER},
            "Route.typed_per_filter_config",
            id="per filter",
        ),
        pytest.param({"redirect": {"regex_rewrite": REWRITE}}, "RedirectAction.regex_rewrite", id="regex redirect"),
        pytest.param(
            {"direct_response": {"status": 200, "body": {"filename": "/f"}}}, "DirectResponseAction.body", id="file"
        ),
        pytest.param(
            {
                "route": {
                    "weighted_clusters": {
                        "clusters": [{"name": "c", "weight": 1, "request_headers_to_add": [HEADER]}]
                    }
                }
            },
            "ClusterWeight.request_headers_to_add",
            id="of a weighted cluster",
        ),
    ],
)
def test_features_that_refuse_at_connect(body: dict[str, Any], want: str) -> None:
    got = decode_route({"match": {"prefix": "/"}, **body})
    assert [limit.feature for limit in got.limitations if limit.effect is Effect.REFUSED] == [want]


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"auto_host_rewrite": False}, id="false asks for nothing"),
        pytest.param({"upgrade_configs": [{"upgrade_type": "websocket"}]}, id="websocket passes"),
        pytest.param({"cluster_not_found_response_code": "NOT_FOUND"}, id="a missing cluster refuses"),
    ],
)
def test_actions_that_change_nothing(action: dict[str, Any]) -> None:
    got = decode_route(route_to(**action))
    assert (got.action, got.limitations) == (ClusterAction(cluster="c"), ())


def test_weighted_clusters() -> None:
    clusters = [{"name": "a", "weight": 80}, {"name": "b", "weight": 20}, {"name": "a", "weight": 0}]
    got = decode_route({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}})
    assert got.action == WeightedClusters(
        clusters=(WeightedCluster("a", 80), WeightedCluster("b", 20), WeightedCluster("a", 0))
    )


@pytest.mark.parametrize(
    ("host", "want"),
    [
        pytest.param({"include_request_attempt_count": True}, [], id="attempt count"),
        pytest.param({"require_tls": "ALL"}, [("VirtualHost.require_tls", Effect.REFUSED)], id="require_tls"),
        pytest.param(
            {"retry_policy": {"retry_on": "5xx"}}, [("VirtualHost.retry_policy", Effect.UNENFORCED)], id="retry"
        ),
        pytest.param(
            {"response_headers_to_add": [HEADER]},
            [("VirtualHost.response_headers_to_add", Effect.REFUSED)],
            id="headers",
        ),
        pytest.param(
            {"typed_per_filter_config": PER_FILTER},
            [("VirtualHost.typed_per_filter_config", Effect.REFUSED)],
            id="per filter",
        ),
    ],
)
def test_limits_of_a_virtual_host(host: dict[str, Any], want: list[tuple[str, Effect]]) -> None:
    got = decode(route_to(), host=host).virtual_hosts[0]
    assert [(limit.feature, limit.effect) for limit in got.limitations] == want


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param({"validate_clusters": False, "ignore_port_in_host_matching": True}, [], id="istiod's"),
        pytest.param({"vhds": {"config_source": {"ads": {}}}}, ["RouteConfiguration.vhds"], id="vhds"),
        pytest.param({"internal_only_headers": ["a"]}, ["RouteConfiguration.internal_only_headers"], id="internal"),
    ],
)
def test_limits_of_a_route_configuration(body: dict[str, Any], want: list[str]) -> None:
    assert [limit.feature for limit in decode(route_to(), **body).limitations] == want


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param(
            {"virtual_hosts": [{"name": "a", "domains": ["x"]}, {"name": "b", "domains": ["y", "X"]}]},
            "virtual_hosts[1].domains[1]",
            id="a domain twice",
        ),
        pytest.param({"virtual_hosts": [{"name": "a"}]}, "virtual_hosts[0].domains", id="no domains"),
        pytest.param(
            {"virtual_hosts": [{"domains": ["x"]}]}, "virtual_hosts[0].name", id="virtual host without name"
        ),
    ],
)
def test_rejects_route_configuration(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        TYPE.decode(encode("RDS", {"name": "r", **body}))
    assert caught.value.path == path


def test_path_options() -> None:
    got = decode(route_to(), ignore_port_in_host_matching=True, ignore_path_parameters_in_path_matching=True)
    assert (got.ignores_port, got.ignores_path_parameters) == (True, True)


def _weighted(*weights: int) -> dict[str, Any]:
    return {"weighted_clusters": {"clusters": [{"name": "c", "weight": weight} for weight in weights]}}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param({"route": {"cluster": "c"}}, ".match", id="no match"),
        pytest.param({"match": {}, "route": {"cluster": "c"}}, ".match", id="empty match"),
        pytest.param({"match": {"prefix": "/"}}, "", id="no action"),
        pytest.param({"match": {"prefix": "/"}, "route": {}}, ".route", id="no cluster"),
        pytest.param({"match": {"prefix": "/"}, "route": {"cluster": ""}}, ".route.cluster", id="empty cluster"),
        pytest.param({"match": {"prefix": "/"}, "route": _weighted(0)}, ".route.weighted_clusters", id="weight 0"),
        pytest.param(
            {"match": {"path_separated_prefix": "/a/"}, "route": {"cluster": "c"}},
            ".match.path_separated_prefix",
            id="separated prefix with a slash",
        ),
        pytest.param(
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x" * 4097}}},
            ".direct_response.body",
            id="a long body",
        ),
        pytest.param(
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"weight": 1}]}}},
            ".route.weighted_clusters.clusters[0]",
            id="a weight of nothing",
        ),
        pytest.param(
            {
                "match": {"prefix": "/"},
                "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1}, {"name": "d"}]}},
            },
            ".route.weighted_clusters.clusters[1].weight",
            id="no weight",
        ),
        pytest.param(
            {"match": {"prefix": "/"}, "route": _weighted(2**32 - 1, 1)},
            ".route.weighted_clusters",
            id="weights overflow",
        ),
    ],
)
def test_rejects_route(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode(body)
    assert caught.value.path == f"virtual_hosts[0].routes[0]{path}"


def test_virtual_host_names_may_repeat() -> None:
    hosts = [{"name": "a", "domains": ["x"]}, {"name": "a", "domains": ["y"]}]
    got = TYPE.decode(encode("RDS", {"name": "r", "virtual_hosts": hosts}))[1]
    assert isinstance(got, RouteConfiguration)
    assert [host.domains for host in got.virtual_hosts] == [("x",), ("y",)]


def test_a_virtual_host_that_is_in_use_is_not_decoded_again() -> None:
    hosts = [{"name": f"v{i}", "domains": [f"h{i}"], "routes": [route_to("a")]} for i in range(3)]
    before = decode(virtual_hosts=hosts)
    hosts[1] = {**hosts[1], "routes": [route_to("b")]}
    after = decode(virtual_hosts=[{"name": "new", "domains": ["new"]}, *hosts])
    pairs = zip(before.virtual_hosts, after.virtual_hosts[1:], strict=True)
    assert [was is becomes for was, becomes in pairs] == [True, False, True]
