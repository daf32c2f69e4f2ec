"""RouteConfiguration: which routes match everything and change nothing, and what stands in the others' way."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.model.limitation import Effect
from kmesh.model.route import ClusterAction, OtherAction, Route, RouteConfiguration
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
    assert got == Route(name="n", matches_all=True, action=ClusterAction(cluster="c"))


def test_istiods_default_route() -> None:
    retries = {"retry_on": "connect-failure", "num_retries": 2, "host_selection_retry_max_attempts": "5"}
    got = decode_route(route_to(retry_policy=retries, max_stream_duration={"max_stream_duration": "0s"}))
    assert got.action == ClusterAction(cluster="c")
    assert [(limit.feature, limit.effect) for limit in got.limitations] == [
        ("RouteAction.retry_policy", Effect.UNENFORCED)
    ]


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


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param({"redirect": {"https_redirect": True}}, "redirect", id="redirect"),
        pytest.param({"direct_response": {"status": 404}}, "direct_response", id="direct response"),
        pytest.param({"non_forwarding_action": {}}, "non_forwarding_action", id="non-forwarding"),
        pytest.param({"route": {"cluster_header": "x"}}, "cluster_header", id="cluster_header"),
        pytest.param({"route": {"cluster": "c", "prefix_rewrite": "/"}}, "prefix_rewrite", id="rewrite"),
        pytest.param({"route": {"cluster": "c", "host_rewrite_literal": "h"}}, "host_rewrite_literal", id="host"),
        pytest.param({"route": {"cluster": "c", "auto_host_rewrite": True}}, "auto_host_rewrite", id="auto host"),
        pytest.param({"route": {"cluster": "c", "metadata_match": {}}}, "metadata_match", id="subset"),
        pytest.param(
            {"route": {"cluster": "c", "hash_policy": [{"header": {"header_name": "a"}}]}}, "hash_policy", id="hash"
        ),
        pytest.param(
            {"route": {"cluster": "c", "request_mirror_policies": [{"cluster": "d"}]}},
            "request_mirror_policies",
            id="mirror",
        ),
        pytest.param(
            {"route": {"cluster": "c", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}},
            "connect_config",
            id="connect",
        ),
        pytest.param(
            {"route": {"cluster": "c"}, "request_headers_to_add": [HEADER]}, "request_headers_to_add", id="hdr"
        ),
        pytest.param(
            {"route": {"cluster": "c"}, "typed_per_filter_config": PER_FILTER}, "typed_per_filter_config", id="f"
        ),
    ],
)
def test_other_actions(body: dict[str, Any], want: str) -> None:
    got = decode_route({"match": {"prefix": "/"}, **body})
    assert isinstance(got.action, OtherAction)
    assert got.action.kind == want
    assert all(limit.effect is not Effect.REFUSED for limit in got.limitations)


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"auto_host_rewrite": False}, id="false asks for nothing"),
        pytest.param({"upgrade_configs": [{"upgrade_type": "websocket"}]}, id="websocket passes"),
        pytest.param({"cluster_not_found_response_code": "NOT_FOUND"}, id="a missing cluster refuses"),
    ],
)
def test_actions_that_change_nothing(action: dict[str, Any]) -> None:
    assert decode_route(route_to(**action)).action == ClusterAction(cluster="c")


def test_weighted_clusters_are_named() -> None:
    clusters = [{"name": "a", "weight": 80}, {"name": "b", "weight": 20}, {"name": "a", "weight": 0}]
    got = decode_route({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}})
    assert got.action == OtherAction(kind="weighted_clusters", clusters=("a", "b"))


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
