"""The route configurations that scenarios have: what is asked of a request before it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.resources import typed

__all__ = ["ANY_REQUEST", "BY_HEADERS", "ONE_HOST", "WEIGHTED", "Routing"]

_OTHER_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_LIKE_ISTIO = {
    "timeout": "0s",
    "retry_policy": {
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
        "num_retries": 2,
        "retry_host_predicate": [typed(_OTHER_HOSTS, "envoy.retry_host_predicates.previous_hosts")],
        "host_selection_retry_max_attempts": 5,
    },
}
_HEADER_ROUTES = 99
_WEIGHTS = (75, 25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Both functions are given the name of the service's cluster."""

    clusters: Callable[[str], Sequence[str]]
    """Names of all that routes lead to; the endpoint of each is the lane's server."""
    routes: Callable[[str], Sequence[dict[str, Any]]]
    takes_any_host: bool = False
    """Whether there is nothing to decide for each request, not even whether the service knows its Host."""

    def virtual_hosts(self, cluster: str, address: tuple[str, int]) -> list[dict[str, Any]]:
        ip, port = address
        domains = ["*"] if self.takes_any_host else ["bench", ip, f"{ip}:{port}"]
        return [{"name": cluster, "domains": domains, "routes": list(self.routes(cluster))}]


def _only(cluster: str) -> list[str]:
    return [cluster]


def _with_canary(cluster: str) -> list[str]:
    return [cluster, f"{cluster}|canary"]


def _to(cluster: str) -> dict[str, Any]:
    return {"cluster": cluster, **_LIKE_ISTIO}


def _one_route(cluster: str) -> list[dict[str, Any]]:
    return [{"match": {"prefix": "/"}, "route": _to(cluster)}]


def _by_headers(cluster: str) -> list[dict[str, Any]]:
    """Routes that look at headers which the request does not have, and the one that takes it behind them."""
    routes: list[dict[str, Any]] = []
    for number in range(_HEADER_ROUTES):
        header = {"name": "x-tenant", "string_match": {"exact": f"tenant-{number}"}}
        match = {"prefix": f"/v{number % 10}", "headers": [header]}
        routes.append({"match": match, "route": _to(f"{cluster}|canary")})
    return [*routes, *_one_route(cluster)]


def _weighted(cluster: str) -> list[dict[str, Any]]:
    shares = [{"name": name, "weight": w} for name, w in zip(_with_canary(cluster), _WEIGHTS, strict=True)]
    action = {"weighted_clusters": {"clusters": shares}, **_LIKE_ISTIO}
    return [{"match": {"prefix": "/"}, "route": action}]


ANY_REQUEST = Routing(clusters=_only, routes=_one_route, takes_any_host=True)
ONE_HOST = Routing(clusters=_only, routes=_one_route)
BY_HEADERS = Routing(clusters=_with_canary, routes=_by_headers)
WEIGHTED = Routing(clusters=_with_canary, routes=_weighted)
