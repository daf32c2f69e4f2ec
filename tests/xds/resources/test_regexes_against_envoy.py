"""Wherever a resource may have a regular expression, the real Envoy and the decoders refuse those that RE2 does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from envoy.extensions.access_loggers.file.v3 import file_pb2 as _file  # noqa: F401

from tests.support.envoy_verdict import are_accepted_by_envoy, is_accepted_here
from tests.support.resources import http_manager, listener, route_to, static_cluster, typed

VALID, INVALID = "a+", "(a"

Json = dict[str, Any]
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
RING_HASH = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"
FILE_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog"


def regex(pattern: str) -> Json:
    return {"regex": pattern}


def string(pattern: str) -> Json:
    return {"safe_regex": regex(pattern)}


def header(pattern: str) -> Json:
    return {"name": "a", "safe_regex_match": regex(pattern)}


def rewrite(pattern: str) -> Json:
    return {"pattern": regex(pattern), "substitution": "b"}


def metadata(value: Json) -> Json:
    return {"filter": "f", "path": [{"key": "a"}], "value": value}


def hashed(pattern: str) -> Json:
    return {"header": {"header_name": "a", "regex_rewrite": rewrite(pattern)}}


def logged(log_filter: Json) -> Json:
    return typed(FILE_LOG, path="/dev/null") | {"filter": log_filter}


def limited(action: Json) -> Json:
    return {"actions": [action]}


def routes(*entries: Json) -> Json:
    return listener(http_manager(list(entries)))


def match(**conditions: Any) -> Json:
    return routes(route_to() | {"match": {"prefix": "/", **conditions}})


def action(**fields: Any) -> Json:
    return routes(route_to(**fields))


def host(**fields: Any) -> Json:
    virtual_host = {"name": "v", "domains": ["*"], "routes": [route_to()], **fields}
    return listener(http_manager(route_config={"name": "r", "virtual_hosts": [virtual_host]}))


def http_cluster(**options: Any) -> Json:
    http1: Json = {"explicit_http_config": {"http_protocol_options": {}}}
    return static_cluster(
        typed_extension_protocol_options={HTTP_OPTIONS: typed(HTTP_OPTIONS, **http1, **options)["typed_config"]}
    )


def checked_cluster(pattern: str) -> Json:
    bounds = {"timeout": "1s", "interval": "1s", "healthy_threshold": 1, "unhealthy_threshold": 1}
    http = {"path": "/", "service_name_matcher": string(pattern)}
    return static_cluster(health_checks=[{**bounds, "http_health_check": http}])


def ring_hash_cluster(pattern: str) -> Json:
    policy = typed(RING_HASH, consistent_hashing_lb_config={"hash_policy": [hashed(pattern)]})
    return static_cluster(load_balancing_policy={"policies": [{"typed_extension_config": policy}]})


LISTENERS: dict[str, Callable[[str], Json]] = {
    "path": lambda x: routes(route_to() | {"match": {"safe_regex": regex(x)}}),
    "header": lambda x: match(headers=[header(x)]),
    "header as string": lambda x: match(headers=[{"name": "a", "string_match": string(x)}]),
    "query parameter": lambda x: match(query_parameters=[{"name": "a", "string_match": string(x)}]),
    "metadata": lambda x: match(dynamic_metadata=[metadata({"string_match": string(x)})]),
    "metadata list": lambda x: match(
        dynamic_metadata=[metadata({"list_match": {"one_of": {"string_match": string(x)}}})]
    ),
    "filter state": lambda x: match(filter_state=[{"key": "f", "string_match": string(x)}]),
    "path rewrite": lambda x: action(regex_rewrite=rewrite(x)),
    "host rewrite": lambda x: action(host_rewrite_path_regex=rewrite(x)),
    "redirect": lambda x: routes({"match": {"prefix": "/"}, "redirect": {"regex_rewrite": rewrite(x)}}),
    "hash policy": lambda x: action(hash_policy=[hashed(x)]),
    "retry": lambda x: action(retry_policy={"retry_on": "5xx", "retriable_headers": [header(x)]}),
    "retry by request": lambda x: action(retry_policy={"retry_on": "5xx", "retriable_request_headers": [header(x)]}),
    "retry of a host": lambda x: host(retry_policy={"retry_on": "5xx", "retriable_headers": [header(x)]}),
    "cors": lambda x: action(cors={"allow_origin_string_match": [string(x)]}),
    "cors of a host": lambda x: host(cors={"allow_origin_string_match": [string(x)]}),
    "virtual cluster": lambda x: host(virtual_clusters=[{"name": "a", "headers": [header(x)]}]),
    "limit by header": lambda x: action(
        rate_limits=[limited({"header_value_match": {"descriptor_value": "a", "headers": [header(x)]}})]
    ),
    "limit by query": lambda x: action(
        rate_limits=[
            limited(
                {
                    "query_parameter_value_match": {
                        "descriptor_value": "a",
                        "query_parameters": [{"name": "a", "string_match": string(x)}],
                    }
                }
            )
        ]
    ),
    "limit of a host": lambda x: host(
        rate_limits=[limited({"header_value_match": {"descriptor_value": "a", "headers": [header(x)]}})]
    ),
    "mirror": lambda x: action(
        request_mirror_policies=[
            {"cluster": "c", "request_headers_mutations": [{"remove_on_match": {"key_matcher": string(x)}}]}
        ]
    ),
    "upgrade": lambda x: listener(http_manager(http_protocol_options={"ignore_http_11_upgrade": [string(x)]})),
    "log": lambda x: listener(http_manager(access_log=[logged({"header_filter": {"header": header(x)}})])),
    "log by metadata": lambda x: listener(
        http_manager(access_log=[logged({"metadata_filter": {"matcher": metadata({"string_match": string(x)})}})])
    ),
    "log of a listener": lambda x: listener(access_log=[logged({"header_filter": {"header": header(x)}})]),
    "local reply": lambda x: listener(
        http_manager(local_reply_config={"mappers": [{"filter": {"header_filter": {"header": header(x)}}}]})
    ),
}
CLUSTERS: dict[str, Callable[[str], Json]] = {
    "health check": checked_cluster,
    "upgrade": lambda x: static_cluster(http_protocol_options={"ignore_http_11_upgrade": [string(x)]}),
    "retry": lambda x: http_cluster(retry_policy={"retry_on": "5xx", "retriable_headers": [header(x)]}),
    "hash policy": lambda x: http_cluster(hash_policy=[hashed(x)]),
    "outlier detection": lambda x: http_cluster(
        outlier_detection={"error_matcher": {"http_response_headers_match": {"headers": [header(x)]}}}
    ),
    "ring hash": ring_hash_cluster,
}


def test_agrees_with_envoy_in_every_place(tmp_path: Path) -> None:
    places = [("LDS", name, place) for name, place in LISTENERS.items()]
    places += [("CDS", name, place) for name, place in CLUSTERS.items()]
    names = [f"{kind} {name}" for kind, name, _ in places]
    for pattern, want in ((VALID, True), (INVALID, False)):
        cases = [(kind, place(pattern)) for kind, _, place in places]
        there, here = are_accepted_by_envoy(cases, tmp_path), list(map(is_accepted_here, cases))
        got = dict(zip(names, zip(there, here, strict=True), strict=True))
        assert got == dict.fromkeys(names, (want, want)), pattern
