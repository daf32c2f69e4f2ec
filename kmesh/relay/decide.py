"""From a request to what the relay does with it: send it to a cluster, answer it, or refuse it by name.

The route is found by kmesh.compiler.semantics, on the model. What a route, its virtual host or its configuration asks
for and no one here does ends the request: it is never sent on without it. No I/O; randomness comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from kmesh.compiler import semantics
from kmesh.compiler.semantics import Request, Routed, Subject, build_subject, route_in_host
from kmesh.model.match import MILLION
from kmesh.model.route import Route, RouteConfiguration, VirtualHost
from kmesh.model.route_features import Place, classify
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.configuration import Configuration
from kmesh.relay.replace_regex import replace_regex
from kmesh.relay.rewrites import (
    HeadRewrite,
    UnsafePath,
    answer_rewrite,
    edit_reply,
    list_edits,
    request_rewrite,
)

__all__ = ["Decision", "Refused", "Reply", "RequestHead", "ToCluster", "choose_whole", "decide"]

Draw = Callable[[int], int]
"""A random number below what is given, as random.randrange."""


class RequestHead(Protocol):
    """A well-formed head. Headers in the order of the wire, values without surrounding white space."""

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes: ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToCluster:
    """Send it on, as `rewrite_request` makes it. All times are in seconds."""

    name: str
    cluster_id: int
    timeout_s: float | None
    """From the end of the request to the end of the answer; then 504. None: no limit."""
    idle_timeout_s: float | None
    """Without a byte either way; None: the route has none of its own."""
    connect_timeout_s: float
    connect_retries: int
    """How often another endpoint is tried when one cannot be reached."""
    rewrite_request: HeadRewrite | None = None
    """None: the head goes on as it came."""
    rewrite_answer: HeadRewrite | None = None
    """Of a final answer, and of one that is made in its place (503, 504); not of an interim one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer it. `headers` are in lower case, without content-length, date, server and connection."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    closes: bool = False
    """The connection, once answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Answer 503: it asks for what nothing here does."""

    feature: str
    """By name, for the answer's body and for reports."""


Decision = ToCluster | Reply | Refused

_Headers = tuple[tuple[bytes, bytes], ...]


def decide(configuration: Configuration, routing: int, head: RequestHead, port: int, draw: Draw) -> Decision:
    """`routing` is what the kernel's programs know the listener's routes by, `port` what was connected to."""
    unit = configuration.routings.get(routing)
    if unit is None:
        return Refused(feature="a listener that is gone")
    request = Request(method=head.method, target=head.target, headers=head.headers)
    subject = build_subject(request, unit.normalization, port)
    if isinstance(subject, semantics.Reply):
        closes = subject.status == 400 or head.method == b"CONNECT"
        return replace(_reply(subject), closes=closes)
    host = configuration.hosts[routing].find(subject.authority)
    config = unit.config
    feature = next(_find_refused(config, host), None)
    if feature:
        return Refused(feature=feature)
    routed = route_in_host(config, host, subject, draw(MILLION), replace_regex)
    if routed.route is None or host is None:
        return _answer_without_route(routed)
    feature = next(_find_refused_of_route(routed.route), None)
    if feature:
        return Refused(feature=feature)
    return _Taken(configuration, config, host, routed.route, subject, request).follow(routed.outcome, draw)


def choose_whole(
    configuration: Configuration, clusters: tuple[WeightedCluster, ...], draw: Draw
) -> ToCluster | None:
    """Where a whole connection goes, which is not HTTP/1.1; None where there is no such cluster. No timeouts."""
    name = _draw_cluster(clusters, draw).name if clusters else ""
    known = configuration.clusters.get(name)
    if known is None:
        return None
    return ToCluster(
        name=name,
        cluster_id=known.id,
        timeout_s=None,
        idle_timeout_s=None,
        connect_timeout_s=known.connect_timeout_s,
        connect_retries=0,
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request with the route that takes it."""

    configuration: Configuration
    config: RouteConfiguration
    host: VirtualHost
    route: Route
    subject: Subject
    request: Request

    def follow(self, outcome: semantics.Outcome, draw: Draw) -> Decision:
        match outcome:
            case semantics.ToCluster(name):
                return self._send(name, None)
            case semantics.ToOneOf(clusters):
                cluster = _draw_cluster(clusters, draw)
                return self._send(cluster.name, cluster)
            case semantics.Reply() as reply:
                return _reply(reply, self)
            case semantics.Undecided(feature):
                return Refused(feature=feature)

    def _send(self, name: str, cluster: WeightedCluster | None) -> Decision:
        known = self.configuration.clusters.get(name)
        if known is None:
            return _reply(semantics.Reply(status=self.route.no_cluster_status), self)
        if known.is_http2_only:
            return Refused(feature=f"HTTP/2 to cluster {name!r} whatever the client speaks")
        edits = list_edits(self.config, self.host, self.route)
        try:
            rewrite_request = request_rewrite(self.subject, self._is_as_written(), self.route, cluster, edits)
        except UnsafePath:
            return Refused(feature="a rewrite to what is no path")
        return ToCluster(
            name=name,
            cluster_id=known.id,
            timeout_s=self.route.timeout_s,
            idle_timeout_s=self.route.idle_timeout_s,
            connect_timeout_s=known.connect_timeout_s,
            connect_retries=self.route.connect_retries,
            rewrite_request=rewrite_request,
            rewrite_answer=answer_rewrite(cluster, edits),
        )

    def _is_as_written(self) -> bool:
        hosts = [value for name, value in self.request.headers if name.lower() == b"host"]
        return self.request.target == self.subject.path and hosts == [self.subject.authority]


def _draw_cluster(clusters: tuple[WeightedCluster, ...], draw: Draw) -> WeightedCluster:
    left = draw(sum(cluster.weight for cluster in clusters))
    for cluster in clusters:
        if left < cluster.weight:
            return cluster
        left -= cluster.weight
    raise AssertionError("a draw is below the sum of weights")


def _answer_without_route(routed: Routed) -> Decision:
    match routed.outcome:
        case semantics.Reply() as reply:
            return _reply(reply)
        case semantics.Undecided(feature):
            return Refused(feature=feature)
        case outcome:
            raise AssertionError(f"{outcome} without a route")


def _reply(reply: semantics.Reply, taken: _Taken | None = None) -> Reply:
    """As Envoy: the route's headers come before it looks whether the body's type is told."""
    headers: _Headers = ((b"location", reply.location),) if reply.location is not None else ()
    if taken:
        headers = edit_reply(headers, list_edits(taken.config, taken.host, taken.route))
    has_type = any(name == b"content-type" for name, _ in headers)
    if reply.body and not has_type:
        headers = (*headers, (b"content-type", b"text/plain"))
    elif not reply.body:
        headers = tuple(header for header in headers if header[0] != b"content-type")
    return Reply(status=reply.status, headers=headers, body=reply.body)


def _find_refused(config: RouteConfiguration, host: VirtualHost | None) -> Iterator[str]:
    """Features that concern every request of the virtual host, and nothing here does."""
    for feature in (*config.features, *(host.features if host else ())):
        if not _is_done(feature.name):
            yield feature.name


def _find_refused_of_route(route: Route) -> Iterator[str]:
    yield from (name for name in (route.action.feature, *(f.name for f in route.features)) if not _is_done(name))


def _is_done(name: str) -> bool:
    return classify(name).place in (Place.KERNEL, Place.RELAY)
