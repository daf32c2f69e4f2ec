"""Filter chains that cannot be told apart at connect must lead to the same place; else the connection is refused.

    one of tls (cluster a), plain (cluster a), undecided: transport_protocol
 -> cluster a

    one of tls (cluster a), plain (cluster b), undecided: transport_protocol
 -> refuse unsupported

What user space can tell apart goes there: whether a connection begins with HTTP/1.1.

    one of http (cluster a), default (cluster b), undecided: application_protocols
 -> routes of http, or cluster b where it is no HTTP

A connection that begins with HTTP/2, where the chain of HTTP takes that too, is one that nothing here routes by
request. It goes to the cluster of all requests where there is only one, and is closed otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from kmesh.compiler.ir import (
    Choice,
    Http,
    ListenerUnit,
    OneOf,
    Program,
    Refuse,
    ToCluster,
    ToRoutes,
    Undetected,
    Weighted,
)
from kmesh.compiler.passes.connect_time_http import make_routing
from kmesh.compiler.report import Report
from kmesh.compiler.rewrite import rewrite_listeners
from kmesh.model.limitation import Effect
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.records.constants import Reason
from kmesh.records.digest import content_id

__all__ = ["merge_outcomes"]


def merge_outcomes(program: Program) -> Program:
    return rewrite_listeners(program, _merge)


def _merge(unit: ListenerUnit, choice: Choice, found: list[Report]) -> Choice:
    if not isinstance(choice, OneOf):
        return choice
    first, *others = choice.outcomes
    if all(other.choice == first.choice for other in others):
        return first.choice
    if choice.http and isinstance(first.choice, (ToCluster, ToRoutes)):
        found.append(_report_detection(unit, choice.http))
        return _route_http(unit, choice.http, first.choice, others[0].choice)
    other = next(other for other in others if other.choice != first.choice)
    found.append(
        Report(
            kind="listener",
            name=unit.name,
            feature="filter_chain_match on " + (", ".join(choice.undecided) or "nothing that differs"),
            path="filter_chains",
            effect=Effect.REFUSED,
            consequence=f"filter chains {first.chain!r} and {other.chain!r} lead to different places and "
            "connect() cannot tell them apart: connections that could get either are refused",
        )
    )
    return Refuse(Reason.UNSUPPORTED)


def _route_http(unit: ListenerUnit, http: Http, requests: ToCluster | ToRoutes, rest: Choice) -> Choice:
    routing = make_routing(unit, http.chain)
    assert routing, "requests lead somewhere"
    clusters = _list_clusters(rest)
    http2 = clusters
    if http.takes_http2:
        http2 = _list_clusters(requests)
    undetected = Undetected(
        clusters=clusters, http2=http2, detection=http.detection, takes_http10=http.takes_http10
    )
    name = f"{routing.name} {content_id(repr(undetected).encode()):016x}"
    return ToRoutes(replace(routing, name=name, undetected=undetected))


def _list_clusters(choice: Choice) -> tuple[WeightedCluster, ...]:
    """Where a whole connection goes; none where it cannot."""
    match choice:
        case ToCluster(name):
            return (WeightedCluster(name, 1),)
        case Weighted(shares):
            return tuple(
                WeightedCluster(share.choice.name, share.weight)
                for share in shares
                if isinstance(share.choice, ToCluster)
            )
        case _:
            return ()


def _report_detection(unit: ListenerUnit, http: Http) -> Report:
    return Report(
        kind="listener",
        name=unit.name,
        feature="connections that do not begin with HTTP/1.1",
        path="filter_chains",
        effect=Effect.RELAYED,
        consequence="their bytes are copied in user space"
        + (", and those of HTTP/2 are closed where routes differ" if http.takes_http2 else ""),
    )
