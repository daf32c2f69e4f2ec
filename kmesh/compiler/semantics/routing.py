"""From a request to what becomes of it: its virtual host, the first route there that matches, and its action."""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.compiler.semantics.conditions import find_failing
from kmesh.compiler.semantics.location import ReplaceRegex, locate, locate_under_https
from kmesh.compiler.semantics.request import Reply, Request, Subject
from kmesh.compiler.semantics.target import build_subject
from kmesh.compiler.semantics.virtual_host import find_virtual_host
from kmesh.errors import Unsupported
from kmesh.model.listener import Normalization
from kmesh.model.route import (
    ClusterAction,
    ClusterHeader,
    DirectResponse,
    OtherAction,
    Redirect,
    RequireTls,
    Route,
    RouteConfiguration,
    VirtualHost,
    WeightedClusters,
)
from kmesh.model.route_features import EXTERNAL_TLS
from kmesh.model.weighted_cluster import WeightedCluster

__all__ = ["Outcome", "Rejection", "Routed", "ToCluster", "ToOneOf", "Undecided", "route_in_host", "route_request"]

_NOT_FOUND = Reply(status=404)
_NO_CLUSTER = Reply(status=503)
_HERE = Redirect()
"""Where Envoy says that a direct response of 201 or 3xx is."""


@dataclass(frozen=True, slots=True)
class ToCluster:
    name: str
    """Whatever a header says, for a ClusterHeader; such a cluster may not exist."""


@dataclass(frozen=True, slots=True)
class ToOneOf:
    clusters: tuple[WeightedCluster, ...]
    """Drawn for each request; no weight is 0."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing here can tell what Envoy would do."""

    feature: str


Outcome = Reply | ToCluster | ToOneOf | Undecided


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A route before the one taken, and the first of its conditions that did not hold."""

    index: int
    route: Route
    condition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    outcome: Outcome
    virtual_host: VirtualHost | None = None
    index: int | None = None
    """Of the route in its virtual host; None when there is none."""
    rejected: tuple[Rejection, ...] = ()

    @property
    def route(self) -> Route | None:
        return self.virtual_host.routes[self.index] if self.virtual_host and self.index is not None else None


def route_request(
    config: RouteConfiguration,
    normalization: Normalization,
    request: Request,
    *,
    port: int,
    draw: int = 0,
    replace_regex: ReplaceRegex | None = None,
) -> Routed:
    """What becomes of `request` on a connection to `port`.

    `draw`, below a million, is the random number of this request for runtime fractions: 0 takes every route that is
    taken at all. Without `replace_regex` a redirect by regular expression is undecided.
    """
    subject = build_subject(request, normalization, port)
    if isinstance(subject, Reply):
        return Routed(outcome=subject)
    return route_in_host(config, find_virtual_host(config, subject.authority), subject, draw, replace_regex)


def route_in_host(
    config: RouteConfiguration,
    virtual_host: VirtualHost | None,
    subject: Subject,
    draw: int,
    replace_regex: ReplaceRegex | None = None,
) -> Routed:
    """What `route_request` does once the virtual host is known."""
    if virtual_host is None:
        return Routed(outcome=_NOT_FOUND)
    if virtual_host.require_tls is not RequireTls.NONE and subject.values("x-forwarded-proto")[:1] != (b"https",):
        if virtual_host.require_tls is RequireTls.EXTERNAL_ONLY:
            return Routed(outcome=Undecided(EXTERNAL_TLS), virtual_host=virtual_host)
        reply = Reply(status=301, location=locate_under_https(subject))
        return Routed(outcome=reply, virtual_host=virtual_host)
    rejected: list[Rejection] = []
    outcome: Outcome = _NOT_FOUND
    found: int | None = None
    for index, route in enumerate(virtual_host.routes):
        try:
            condition = find_failing(
                route.match, subject, ignores_path_parameters=config.ignores_path_parameters, draw=draw
            )
        except Unsupported as why:
            outcome, found = Undecided(why.feature), index
            break
        if condition is None:
            outcome, found = _act(route, subject, replace_regex), index
            break
        rejected.append(Rejection(index=index, route=route, condition=condition))
    return Routed(outcome=outcome, virtual_host=virtual_host, index=found, rejected=tuple(rejected))


def _act(route: Route, subject: Subject, replace_regex: ReplaceRegex | None) -> Outcome:
    match route.action:
        case ClusterAction(cluster=cluster):
            return ToCluster(cluster)
        case WeightedClusters(clusters=clusters):
            return ToOneOf(tuple(weighted for weighted in clusters if weighted.weight))
        case ClusterHeader(header=header):
            return ToCluster(b"".join(subject.values(header)[:1]).decode(errors="backslashreplace"))
        case Redirect(regex_rewrite=rewrite) if rewrite and not replace_regex:
            return Undecided("RedirectAction.regex_rewrite")
        case Redirect() as redirect:
            location = locate(redirect, route.match.path, subject, replace_regex=replace_regex)
            return Reply(status=redirect.status, location=location)
        case DirectResponse(status=status, body=body):
            has_location = status == 201 or 300 <= status < 400
            here = locate(_HERE, route.match.path, subject) if has_location else None
            return Reply(status=status, location=here, body=body)
        case OtherAction(feature="Route.non_forwarding_action"):
            return _NO_CLUSTER
        case OtherAction(feature=feature):
            return Undecided(feature)
