"""How a request is carried where each is routed for itself: by the kernel, the relay, a waypoint or by nothing. Pure.

The records that its routing unit compiles to decide, run as the kernel runs them; where they hand the request over,
the reason is theirs. What the route that takes it asks for says how far it has to go.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from kmesh.compiler.interpreter.framing import frame_request
from kmesh.compiler.interpreter.head import Head, read_head
from kmesh.compiler.interpreter.requests import match_request
from kmesh.compiler.routes.unit import RoutingUnit, routing_id
from kmesh.compiler.semantics import Request, Routed, Undecided
from kmesh.maps.image import MapName, merge_tables
from kmesh.model.route import Feature, RouteConfiguration, VirtualHost
from kmesh.model.route_features import Place, classify
from kmesh.records.constants import LIMITS, Handover

__all__ = ["Path", "find_request_path"]


class Path(Enum):
    """How a request, or the whole connection, is carried."""

    KERNEL = "kernel"
    RELAY = "relay"
    """In user space on the same node."""
    WAYPOINT = "waypoint"
    REFUSED = "refused"
    DIRECT = "direct"
    """No listener captures it: it goes where the application sends it."""


_PLACES = {Handover.NONE: Place.KERNEL, Handover.WAYPOINT: Place.WAYPOINT, Handover.REFUSED: Place.REFUSED}
"""All other reasons are for the relay."""
_DISTANCE = {place: distance for distance, place in enumerate(Place)}

_SENTENCES = {
    Handover.MALFORMED: "the head is not what the kernel's strict reader takes: the relay reads it, or answers 400",
    Handover.INCOMPLETE: "the head does not end",
    Handover.HEAD_SIZE: f"the head has {LIMITS['HEAD_BYTES']:,} bytes or more, and the kernel reads fewer",
    Handover.METHOD: "the kernel takes GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH and TRACE only",
    Handover.TARGET: "the target does not begin with a slash",
    Handover.VERSION: "the request is not HTTP/1.1",
    Handover.HOST: f"Host is missing, repeated, empty, no host, or longer than {LIMITS['HOST_BYTES']} bytes",
    Handover.NORMALIZE: "the path or Host has what the listener's normalisation may change",
    Handover.FIELDS: f"more than {LIMITS['REQUEST_FIELDS']} headers and query parameters that routes look at",
    Handover.REPEATED: "a header that routes look at comes more than once, and its values count as one",
    Handover.NO_VIRTUAL_HOST: "no virtual host is for this Host: the relay answers",
    Handover.NO_ROUTE: "no route of the virtual host takes it: the relay answers",
    Handover.ACTION: "the route asks for what the relay does",
    Handover.WAYPOINT: "the route asks for what a waypoint does",
    Handover.REFUSED: "the route asks for what nothing here does",
    Handover.BROKEN: "the compiled records are unsound",
    Handover.STEPS: "it takes more steps than the kernel lets a program run",
    Handover.FRAMING: "where it ends, or what becomes of the connection, is the relay's to follow",
}
"""Those that a head alone can have."""
_OF_FEATURES = (Handover.ACTION, Handover.WAYPOINT, Handover.REFUSED)


def find_request_path(unit: RoutingUnit, request: Request, routed: Routed, port: int) -> tuple[Path, tuple[str, ...]]:
    """The path of a request on a connection to `port`, and why. `routed` is what it means (route_request)."""
    reason = _find_handover(unit, _write_head(request), port)
    features = {name: classify(name) for name in _list_features(unit.routing.config, routed)}
    places = (_PLACES.get(reason, Place.RELAY), *(feature.place for feature in features.values()))
    furthest = max(places, key=_DISTANCE.__getitem__)
    why = [
        f"{name}: {feature.place.value}: {feature.meaning}"
        for name, feature in features.items()
        if feature.place is not Place.KERNEL
    ]
    if not (why and reason in _OF_FEATURES):
        why = [*_explain_handover(reason, unit, routed), *why]
    return Path(furthest.value), tuple(why)


def _find_handover(unit: RoutingUnit, message: bytes, port: int) -> Handover:
    """Why the kernel would not carry it, on a connection to the cluster that is free."""
    tables, number = merge_tables(fragment for _, fragment in unit.fragments), routing_id(unit.routing.name)
    reason = match_request(tables, number, message, port=port, draw=lambda: 0, cursors={}).handover
    head = read_head(tables[MapName.PAGE], unit.head.automaton, message)
    framed = frame_request(head, message) if reason is Handover.NONE and isinstance(head, Head) else reason
    return framed if isinstance(framed, Handover) else Handover.NONE


def _write_head(request: Request) -> bytes:
    lines = [request.method + b" " + request.target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers]
    return b"\r\n".join((*lines, b"", b""))


def _list_features(config: RouteConfiguration, routed: Routed) -> Iterator[str]:
    """What the route that takes the request asks for, and its virtual host and configuration for it."""
    holders: list[RouteConfiguration | VirtualHost] = [config]
    if routed.virtual_host:
        holders.append(routed.virtual_host)
    features: list[Feature] = [feature for holder in holders for feature in holder.features]
    if routed.route:
        features += routed.route.features
        yield routed.route.action.feature
        yield from routed.route.match.unsupported
    yield from (feature.name for feature in features)


def _explain_handover(reason: Handover, unit: RoutingUnit, routed: Routed) -> Iterator[str]:
    if reason is Handover.NONE:
        yield "matched in the kernel, request by request"
    elif reason is Handover.BOUND:
        yield _explain_bound(unit, routed)
    elif reason is Handover.REFUSED and isinstance(routed.outcome, Undecided):
        yield f"a condition that nothing here can decide: {routed.outcome.feature}"
    else:
        yield _SENTENCES[reason]


def _explain_bound(unit: RoutingUnit, routed: Routed) -> str:
    host = routed.virtual_host
    of_host = unit.hosts[host.domains[0]].compiled.limit if host else None
    limit = of_host or unit.directory.overflow
    assert limit, "nothing else is over a bound"
    owner = f"virtual host {host.name!r}" if host and of_host else "the domains"
    return f"the matcher of {owner} needs {limit.needed:,} {limit.bound} or more, and the limit is {limit.limit:,}"
