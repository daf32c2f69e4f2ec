"""RDS: RouteConfiguration, as far as a decision at connect time asks (kmesh.model.route).

A route matches all when nothing in its match could turn a request away, and sends to a cluster when nothing in it
changes the exchange. Everything else keeps the name of the field that asks for more.
Source: envoy/config/route/v3/route.proto and route_components.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.route.v3 import route_pb2

from kmesh.model.limitation import Effect, Limitation
from kmesh.model.route import ClusterAction, OtherAction, Route, RouteConfiguration, VirtualHost
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.field import FieldInvalid, at, clip, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.resource import decode_resource, type_url_of
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["TYPE", "decode_route_configuration"]

_UINT32_MAX = 2**32 - 1
_WHOLE = {0: 100, 1: 10_000, 2: 1_000_000}
"""FractionalPercent.DenominatorType -> its denominator."""


def _decode(body: bytes) -> tuple[str, RouteConfiguration]:
    return decode_resource(body, route_pb2.RouteConfiguration, "name", _build)


def _build(message: Any) -> RouteConfiguration:
    check_constraints(message)
    return decode_route_configuration(message, "")


def decode_route_configuration(message: Any, path: str) -> RouteConfiguration:
    """From a message whose constraints hold."""
    hosts_path = under(path, "virtual_hosts")
    _check_domains(message.virtual_hosts, hosts_path)
    return RouteConfiguration(
        name=message.name,
        virtual_hosts=tuple(
            _decode_virtual_host(host, at(hosts_path, index)) for index, host in enumerate(message.virtual_hosts)
        ),
        limitations=limitations_of(message, FIELDS, path),
    )


def _check_domains(virtual_hosts: Iterable[Any], path: str) -> None:
    """No domain twice, whatever its case; virtual host names may repeat, in Envoy too."""
    seen: set[str] = set()
    for index, host in enumerate(virtual_hosts):
        for position, domain in enumerate(host.domains):
            if domain.lower() in seen:
                where = at(under(at(path, index), "domains"), position)
                raise FieldInvalid(where, f"{clip(domain)} is a domain of this route configuration already")
            seen.add(domain.lower())


def _decode_virtual_host(message: Any, path: str) -> VirtualHost:
    routes_path = under(path, "routes")
    return VirtualHost(
        name=message.name,
        domains=tuple(message.domains),
        routes=tuple(_decode_route(route, at(routes_path, index)) for index, route in enumerate(message.routes)),
        limitations=limitations_of(message, FIELDS, path),
    )


def _decode_route(message: Any, path: str) -> Route:
    if message.HasField("route"):
        _check_weights(message.route.weighted_clusters.clusters, under(path, "route.weighted_clusters"))
    limitations = limitations_of(message, FIELDS, path) + _limit_timeout(message, path)
    refused = [limit.feature for limit in limitations if limit.effect is Effect.REFUSED]
    return Route(
        name=message.name,
        matches_all=_matches_all(message.match, under(path, "match")),
        action=_decode_action(message, refused),
        limitations=tuple(limit for limit in limitations if limit.effect is not Effect.REFUSED),
    )


def _decode_action(message: Any, refused: list[str]) -> ClusterAction | OtherAction:
    if not refused:
        return ClusterAction(cluster=message.route.cluster)
    action = message.route
    clusters = [action.cluster, *(entry.name for entry in action.weighted_clusters.clusters)]
    return OtherAction(
        kind=refused[0].rpartition(".")[2], clusters=tuple(dict.fromkeys(name for name in clusters if name))
    )


def _matches_all(match: Any, path: str) -> bool:
    if limitations_of(match, FIELDS, path):
        return False
    share = match.runtime_fraction.default_value
    is_always = not match.HasField("runtime_fraction") or share.numerator >= _WHOLE[share.denominator]
    return is_always and match.prefix in ("", "/")


def _limit_timeout(message: Any, path: str) -> tuple[Limitation, ...]:
    """A route's timeout is 15 s where it names none, and 0 s switches it off."""
    timeout = message.route.timeout
    is_off = message.route.HasField("timeout") and not (timeout.seconds or timeout.nanos)
    if is_off or not message.HasField("route"):
        return ()
    return (Limitation(feature="RouteAction.timeout", path=under(path, "route.timeout"), effect=Effect.UNENFORCED),)


def _check_weights(clusters: Any, path: str) -> None:
    total = sum(entry.weight.value for entry in clusters)
    if clusters and not 0 < total <= _UINT32_MAX:
        raise FieldInvalid(path, f"the sum of weights is {total}, must be 1 to {_UINT32_MAX}")


TYPE = ResourceType(
    name="RDS", type_url=type_url_of(route_pb2.RouteConfiguration), is_full_state=False, decode=_decode
)
