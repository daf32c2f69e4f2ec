"""What a route does, and what of it the route's fields alone do not tell.

Source: envoy/config/route/v3/route_components.proto; what is invalid was tried on the real Envoy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kmesh.model.route import (
    Action,
    ClusterAction,
    ClusterHeader,
    DirectResponse,
    Feature,
    OtherAction,
    Redirect,
    WeightedClusters,
)
from kmesh.model.route_features import DEFAULT_RETRY, NO_TIMEOUT
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.route_edits import decode_edits, decode_regex_rewrite, features_of_edits

__all__ = ["MAX_BODY_BYTES", "count_connect_retries", "decode_action", "decode_timeout", "features_of_action"]
__all__ += ["is_default_retry"]

MAX_BODY_BYTES = 4096
"""Of a direct response, unless the route configuration gives another bound."""

_UINT32_MAX = 2**32 - 1
_REDIRECT_STATUS = {0: 301, 1: 302, 2: 303, 3: 307, 4: 308}
_DEFAULT_RETRY_ON = frozenset(
    ("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes")
)
_DEFAULT_RETRY_FIELDS = frozenset(
    ["retry_on", "num_retries", "retry_host_predicate", "host_selection_retry_max_attempts", "retriable_status_codes"]
)


def decode_action(message: Any, path: str, max_body_bytes: int) -> Action:
    """From a Route whose constraints hold."""
    match message.WhichOneof("action"):
        case "route":
            return _decode_route(message.route, under(path, "route"))
        case "redirect":
            return _decode_redirect(message.redirect)
        case "direct_response":
            return _decode_direct_response(message.direct_response, under(path, "direct_response"), max_body_bytes)
        case other:
            return OtherAction(feature=f"Route.{other}")


def features_of_action(message: Any, path: str) -> Iterator[Feature]:
    """What values mean: a RouteAction's timeout and retries, headers, and where a direct response is read from."""
    if message.direct_response.body.WhichOneof("specifier") in ("filename", "environment_variable"):
        yield Feature(name="DirectResponseAction.body", path=under(path, "direct_response.body"))
    yield from features_of_edits(message, path)
    if not message.HasField("route"):
        return
    action = message.route
    weighted_path = under(path, "route.weighted_clusters.clusters")
    for index, entry in enumerate(action.weighted_clusters.clusters):
        yield from features_of_edits(entry, at(weighted_path, index))
    is_off = action.HasField("timeout") and not (action.timeout.seconds or action.timeout.nanos)
    yield Feature(name=NO_TIMEOUT if is_off else "RouteAction.timeout", path=under(path, "route.timeout"))
    if action.HasField("retry_policy"):
        name = DEFAULT_RETRY if is_default_retry(action.retry_policy) else "RouteAction.retry_policy"
        yield Feature(name=name, path=under(path, "route.retry_policy"))


def decode_timeout(action: Any, default_s: float) -> float | None:
    """Of a RouteAction, in seconds; None where it is 0, which is no limit."""
    return action.timeout.ToNanoseconds() / 1e9 or None if action.HasField("timeout") else default_s


def count_connect_retries(policy: Any) -> int:
    """Of a RetryPolicy that was found to be the default."""
    conditions = {condition.strip() for condition in policy.retry_on.split(",")}
    return policy.num_retries.value if "connect-failure" in conditions else 0


def is_default_retry(policy: Any) -> bool:
    """Whether it asks for no more than what istiod gives every route."""
    conditions = {condition.strip() for condition in policy.retry_on.split(",")}
    predicates = [predicate.name for predicate in policy.retry_host_predicate]
    return (
        {field.name for field, _ in policy.ListFields()} <= _DEFAULT_RETRY_FIELDS
        and conditions <= _DEFAULT_RETRY_ON
        and policy.num_retries.value == 2
        and predicates == ["envoy.retry_host_predicates.previous_hosts"]
        and set(policy.retriable_status_codes) <= {503}
    )


def _decode_route(action: Any, path: str) -> Action:
    match action.WhichOneof("cluster_specifier"):
        case "cluster":
            return ClusterAction(cluster=action.cluster)
        case "cluster_header":
            return ClusterHeader(header=action.cluster_header.lower())
        case "weighted_clusters":
            return _decode_weighted(action.weighted_clusters.clusters, under(path, "weighted_clusters"))
        case other:
            return OtherAction(feature=f"RouteAction.{other}")


def _decode_weighted(entries: Any, path: str) -> WeightedClusters:
    total = sum(entry.weight.value for entry in entries)
    if not 0 < total <= _UINT32_MAX:
        raise FieldInvalid(path, f"the sum of weights is {total}, must be 1 to {_UINT32_MAX}")
    for index, entry in enumerate(entries):
        if not entry.HasField("weight"):
            raise FieldInvalid(under(at(under(path, "clusters"), index), "weight"), "is required")
        if bool(entry.name) == bool(entry.cluster_header):
            raise FieldInvalid(at(under(path, "clusters"), index), "needs a name or a cluster_header, and not both")
    return WeightedClusters(
        clusters=tuple(
            WeightedCluster(
                entry.name,
                entry.weight.value,
                entry.host_rewrite_literal,
                decode_edits(entry, at(under(path, "clusters"), index)),
            )
            for index, entry in enumerate(entries)
        )
    )


def _decode_redirect(message: Any) -> Redirect:
    return Redirect(
        status=_REDIRECT_STATUS[message.response_code],
        scheme="https" if message.https_redirect else message.scheme_redirect,
        host=message.host_redirect,
        port=message.port_redirect or None,
        path=message.path_redirect,
        prefix_rewrite=message.prefix_rewrite,
        regex_rewrite=decode_regex_rewrite(message, "regex_rewrite"),
        strips_query=message.strip_query,
    )


def _decode_direct_response(message: Any, path: str, max_body_bytes: int) -> DirectResponse:
    body = message.body.inline_bytes or message.body.inline_string.encode()
    if len(body) > max_body_bytes:
        raise FieldInvalid(under(path, "body"), f"has {len(body)} bytes, at most {max_body_bytes} are allowed")
    return DirectResponse(status=message.status, body=body)
