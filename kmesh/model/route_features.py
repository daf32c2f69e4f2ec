"""The one table of what routes, virtual hosts and route configurations can ask for, and who does it.

A feature that can be done is done by the kernel path, by the relay (user space on the same node, where the kernel
path hands such requests), or by a waypoint (a full proxy elsewhere); what none of them can do is refused. A route
asks for the furthest place of its features. `at_connect` is what becomes of the feature where a connection is given
its endpoint at connect() and no request is ever looked at: nothing is missing (None), something beside routing is, or
such a connection cannot be.

docs/route-features.md is this table; a test checks that it is current.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kmesh.model.limitation import Effect

__all__ = ["DEFAULT_RETRY", "EXTERNAL_TLS", "FRAMING_HEADER", "HEADER_FORMATTER", "NO_TIMEOUT"]
__all__ += ["PROXY_HEADER_MATCH", "RAW_HEADER_VALUE", "ROUTE_FEATURES", "Place", "RouteFeature", "classify"]


class Place(Enum):
    """Where a feature is done, nearest first."""

    KERNEL = "kernel"
    RELAY = "relay"
    WAYPOINT = "waypoint"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFeature:
    place: Place
    at_connect: Effect | None
    meaning: str
    """What it means there, or why not."""


NO_TIMEOUT = "RouteAction.timeout of 0s"
DEFAULT_RETRY = "RouteAction.retry_policy, Istio's default"
HEADER_FORMATTER = "HeaderValue.value with a formatter"
RAW_HEADER_VALUE = "HeaderValue.raw_value"
FRAMING_HEADER = "HeaderValue.key of a header about the connection or the length"
EXTERNAL_TLS = "VirtualHost.require_tls of EXTERNAL_ONLY"
PROXY_HEADER_MATCH = "RouteMatch.headers on what a proxy sets"

_UNKNOWN = RouteFeature(
    place=Place.REFUSED, at_connect=Effect.REFUSED, meaning="newer than this table: it may change where requests go"
)


def _rows(
    place: Place, at_connect: Effect | None, meaning: str, message: str, fields: str
) -> dict[str, RouteFeature]:
    """One row for each of `fields`, separated by spaces."""
    row = RouteFeature(place=place, at_connect=at_connect, meaning=meaning)
    return {f"{message}.{field}": row for field in fields.split()}


def _row(name: str, place: Place, at_connect: Effect | None, meaning: str) -> dict[str, RouteFeature]:
    return {name: RouteFeature(place=place, at_connect=at_connect, meaning=meaning)}


_HEADERS = (
    "request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove"
)
_REWRITTEN = "the head is rewritten in user space before it goes on"
_ANSWERED = "the kernel passes the bytes of a head on as they are, so it is rewritten in user space"
_PER_FILTER = "configures HTTP filters, and none runs here; a waypoint runs them"
_LIMITER = "asks a rate limit service"
_RETRIES = "not done yet: nothing keeps an exchange that may have to be repeated"
_NO_HOP = "describes a proxy hop in headers of its own, and there is no hop"
_NO_BUFFER = "bounds a proxy's buffers, and no proxy holds bytes"
_TIMED = "the relay times what the kernel cannot"
_MIRRORED = "not done yet: nothing copies requests"
_FORMATTED = "not done yet: nothing fills in Envoy's formatters"
_PLUGIN = "names code of an Envoy build"
_NO_CONDITION = "depends on what filters leave behind, and none runs here"

_ACTIONS: Mapping[str, RouteFeature] = {
    **_rows(Place.KERNEL, None, "chosen for each request, or for the connection when there is no other outcome",
            "RouteAction", "cluster"),
    **_rows(Place.KERNEL, Effect.REFUSED, "one random number for each request; total_weight is not read, as in Envoy",
            "RouteAction", "weighted_clusters"),
    **_rows(Place.RELAY, Effect.REFUSED, "any name may come, so the cluster is looked up in user space",
            "RouteAction", "cluster_header"),
    **_rows(Place.REFUSED, Effect.REFUSED, _PLUGIN, "RouteAction",
            "cluster_specifier_plugin inline_cluster_specifier_plugin"),
    **_rows(Place.RELAY, Effect.REFUSED, "answered in user space", "Route", "direct_response"),
    **_rows(Place.RELAY, Effect.REFUSED, "the location is put together from the request in user space",
            "Route", "redirect"),
    **_rows(Place.RELAY, Effect.REFUSED, "answered as Envoy's router does, with no cluster to go to",
            "Route", "non_forwarding_action"),
    **_rows(Place.REFUSED, Effect.REFUSED, _PLUGIN, "Route", "filter_action"),
    **_rows(Place.REFUSED, Effect.REFUSED, "of a weighted cluster: read by no path here", "WeightedCluster",
            "header_name use_hash_policy"),
    **_rows(Place.RELAY, Effect.REFUSED, _REWRITTEN, "ClusterWeight", f"{_HEADERS} host_rewrite_literal"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, _PER_FILTER, "ClusterWeight", "typed_per_filter_config"),
    **_rows(Place.REFUSED, Effect.REFUSED, "endpoints are not yet told apart by metadata",
            "ClusterWeight", "metadata_match"),
    **_rows(Place.REFUSED, Effect.REFUSED, "of a weighted cluster: read by no path here", "ClusterWeight",
            "cluster_header"),
    **_rows(Place.REFUSED, Effect.REFUSED, "read from a file or the environment, which are another machine's here",
            "DirectResponseAction", "body"),
    **_rows(Place.REFUSED, Effect.REFUSED, "the body varies with the request", "DirectResponseAction", "body_format"),
    **_rows(Place.RELAY, Effect.REFUSED, "the location is put together from the request in user space",
            "RedirectAction", "regex_rewrite"),
}  # fmt: skip

_MATCHES: Mapping[str, RouteFeature] = {
    **_rows(Place.REFUSED, Effect.REFUSED, _NO_CONDITION, "RouteMatch", "dynamic_metadata filter_state"),
    **_rows(Place.REFUSED, Effect.REFUSED, _PLUGIN, "RouteMatch", "path_match_policy"),
    **_rows(Place.REFUSED, Effect.REFUSED, "CONNECT is no request to an origin server; it is not proxied here",
            "RouteMatch", "connect_matcher"),
    **_rows(Place.REFUSED, Effect.REFUSED, _PLUGIN, "StringMatcher", "custom"),
    **_row(PROXY_HEADER_MATCH, Place.REFUSED, Effect.REFUSED,
           "Envoy writes these headers before it routes (x-request-id, x-forwarded-for and such), nothing here does"),
}  # fmt: skip

_ROUTE_ACTION: Mapping[str, RouteFeature] = {
    **_row(NO_TIMEOUT, Place.KERNEL, None, "no limit is set, and none is kept"),
    **_row(
        DEFAULT_RETRY,
        Place.KERNEL,
        Effect.UNENFORCED,
        "every istiod route has it. connect-failure: pooled connections were established before they are chosen, and "
        "the pool dials another endpoint when one cannot be reached; refused-stream, unavailable and cancelled: "
        "HTTP/2 and gRPC, which this path does not carry; retriable-status-codes: a 503 of the server is passed on",
    ),
    **_rows(Place.RELAY, Effect.UNENFORCED, f"{_TIMED}; 15 s when there is none", "RouteAction", "timeout"),
    **_rows(Place.RELAY, Effect.UNENFORCED, _TIMED, "RouteAction", "idle_timeout"),
    **_rows(Place.REFUSED, Effect.UNENFORCED, "not done yet: nothing times it", "RouteAction", "flush_timeout"),
    **_rows(Place.REFUSED, Effect.UNENFORCED, "not done yet: nothing times it", "MaxStreamDuration",
            "max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset"),
    **_rows(Place.KERNEL, Effect.UNENFORCED, "about gRPC's timeouts, which need HTTP/2", "RouteAction",
            "max_grpc_timeout grpc_timeout_offset"),
    **_rows(Place.REFUSED, Effect.UNENFORCED, _RETRIES, "RouteAction", "retry_policy hedge_policy"),
    **_rows(Place.REFUSED, Effect.UNENFORCED, _PLUGIN, "RouteAction", "retry_policy_typed_config"),
    **_rows(Place.KERNEL, Effect.UNENFORCED, "chooses among circuit breakers, which are the cluster's",
            "RouteAction", "priority"),
    **_rows(Place.RELAY, Effect.REFUSED, _REWRITTEN, "RouteAction",
            "prefix_rewrite regex_rewrite host_rewrite_literal host_rewrite_header host_rewrite_path_regex"
            " append_x_forwarded_host"),
    **_rows(Place.REFUSED, Effect.REFUSED, _FORMATTED, "RouteAction", "path_rewrite host_rewrite"),
    **_rows(Place.REFUSED, Effect.REFUSED, "not done yet: endpoints are not known by their host names", "RouteAction",
            "auto_host_rewrite"),
    **_rows(Place.REFUSED, Effect.REFUSED, _PLUGIN, "RouteAction", "path_rewrite_policy"),
    **_rows(Place.REFUSED, Effect.REFUSED, _MIRRORED, "RouteAction", "request_mirror_policies"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, _LIMITER, "RouteAction", "rate_limits"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, "answers preflight requests, which a filter does", "RouteAction", "cors"),
    **_rows(Place.REFUSED, Effect.REFUSED, "not done yet: endpoints are not chosen by a hash of the request",
            "RouteAction", "hash_policy"),
    **_rows(Place.REFUSED, Effect.REFUSED, "endpoints are not yet told apart by metadata",
            "RouteAction", "metadata_match"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, "redirects are followed by a full proxy only", "RouteAction",
            "internal_redirect_policy internal_redirect_action"),
    **_rows(Place.KERNEL, None, "where there is no such cluster the relay answers with it", "RouteAction",
            "cluster_not_found_response_code"),
    **_rows(Place.KERNEL, None, "about TLS early data, and TLS ends elsewhere", "RouteAction", "early_data_policy"),
    **_rows(Place.KERNEL, None, "chooses among rate limits, which are features of their own", "RouteAction",
            "include_vh_rate_limits"),
    **_rows(Place.KERNEL, None, "bounds internal redirects, which are a feature of their own", "RouteAction",
            "max_internal_redirects"),
    **_rows(Place.KERNEL, None, "an upgraded exchange is handed on like any other", "UpgradeConfig",
            "upgrade_type enabled"),
    **_rows(Place.REFUSED, Effect.REFUSED, "CONNECT is no request to an origin server; it is not proxied here",
            "UpgradeConfig", "connect_config"),
}  # fmt: skip

_ROUTE: Mapping[str, RouteFeature] = {
    **_row(HEADER_FORMATTER, Place.REFUSED, Effect.REFUSED, _FORMATTED),
    **_row(FRAMING_HEADER, Place.REFUSED, Effect.REFUSED, "what a message is would no more be what its head says"),
    **_row(RAW_HEADER_VALUE, Place.REFUSED, Effect.REFUSED, "not done yet: header values are text"),
    **_rows(Place.RELAY, Effect.REFUSED, _ANSWERED, "Route", _HEADERS),
    **_rows(Place.WAYPOINT, Effect.REFUSED, _PER_FILTER, "Route", "typed_per_filter_config"),
    **_rows(Place.KERNEL, None, _NO_BUFFER, "Route", "per_request_buffer_limit_bytes request_body_buffer_limit"),
}

_VIRTUAL_HOST: Mapping[str, RouteFeature] = {
    **_rows(Place.RELAY, Effect.REFUSED, _ANSWERED, "VirtualHost", _HEADERS),
    **_rows(Place.WAYPOINT, Effect.REFUSED, _PER_FILTER, "VirtualHost", "typed_per_filter_config"),
    **_rows(Place.REFUSED, Effect.REFUSED, _MIRRORED, "VirtualHost", "request_mirror_policies"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, _LIMITER, "VirtualHost", "rate_limits"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, "answers preflight requests, which a filter does", "VirtualHost", "cors"),
    **_rows(Place.REFUSED, Effect.REFUSED, "a tree of matchers in place of routes", "VirtualHost", "matcher"),
    **_rows(Place.RELAY, Effect.REFUSED, "requests without TLS are redirected in user space", "VirtualHost",
            "require_tls"),
    **_row(EXTERNAL_TLS, Place.REFUSED, Effect.REFUSED,
           "not done yet: nothing tells where a request comes from as Envoy does"),
    **_rows(Place.REFUSED, Effect.UNENFORCED, _RETRIES, "VirtualHost", "retry_policy hedge_policy"),
    **_rows(Place.REFUSED, Effect.UNENFORCED, _PLUGIN, "VirtualHost", "retry_policy_typed_config"),
    **_rows(Place.KERNEL, None, _NO_HOP, "VirtualHost",
            "include_request_attempt_count include_attempt_count_in_response include_is_timeout_retry_header"),
    **_rows(Place.KERNEL, None, _NO_BUFFER, "VirtualHost",
            "per_request_buffer_limit_bytes request_body_buffer_limit"),
}  # fmt: skip

_ROUTE_CONFIGURATION: Mapping[str, RouteFeature] = {
    **_rows(Place.RELAY, Effect.REFUSED, _ANSWERED, "RouteConfiguration", _HEADERS),
    **_rows(Place.REFUSED, Effect.REFUSED, "not done yet: nothing tells where a request comes from as Envoy does",
            "RouteConfiguration", "internal_only_headers"),
    **_rows(Place.WAYPOINT, Effect.REFUSED, _PER_FILTER, "RouteConfiguration", "typed_per_filter_config"),
    **_rows(Place.REFUSED, Effect.REFUSED, _MIRRORED, "RouteConfiguration", "request_mirror_policies"),
    **_rows(Place.REFUSED, Effect.REFUSED, "virtual hosts on demand are not asked for", "RouteConfiguration", "vhds"),
    **_rows(Place.REFUSED, Effect.REFUSED, "virtual hosts are chosen by Host only", "RouteConfiguration",
            "vhost_header"),
}  # fmt: skip

ROUTE_FEATURES: Mapping[str, RouteFeature] = {
    **_ACTIONS, **_MATCHES, **_ROUTE_ACTION, **_ROUTE, **_VIRTUAL_HOST, **_ROUTE_CONFIGURATION,
}  # fmt: skip
"""By message and field, as limitations are named, or by what the value means."""


def classify(name: str) -> RouteFeature:
    """The row of a feature; a field that this table does not know is refused."""
    return ROUTE_FEATURES.get(name, _UNKNOWN)
