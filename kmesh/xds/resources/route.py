"""RDS: RouteConfiguration.

A route configuration comes whole, whatever changed in it. So a virtual host that is in use already is known by a
digest of its bytes, and is the same object again: it is not decoded, and nothing compiles it again.

Source: envoy/config/route/v3/route.proto and route_components.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any
from weakref import WeakValueDictionary

from envoy.config.route.v3 import route_pb2

from kmesh.model.route import Feature, Route, RouteConfiguration, VirtualHost
from kmesh.model.route_features import DEFAULT_RETRY
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.field import FieldInvalid, at, clip, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.resource import decode_resource, type_url_of
from kmesh.xds.resources.route_action import MAX_BODY_BYTES, decode_action, features_of_action, is_default_retry
from kmesh.xds.resources.route_match import decode_route_match
from kmesh.xds.resources.treatment import features_of

__all__ = ["TYPE", "decode_route_configuration"]

_in_use: WeakValueDictionary[tuple[bytes, int], VirtualHost] = WeakValueDictionary()
"""By digest and bound on bodies, which is all that decoding one depends on."""


def _decode(body: bytes) -> tuple[str, RouteConfiguration]:
    return decode_resource(body, route_pb2.RouteConfiguration, "name", _build)


def _build(message: Any) -> RouteConfiguration:
    check_constraints(message, without=frozenset(("virtual_hosts",)))
    return decode_route_configuration(message, "")


def decode_route_configuration(message: Any, path: str) -> RouteConfiguration:
    """From a message whose constraints hold; those of its virtual hosts are checked here."""
    hosts_path = under(path, "virtual_hosts")
    _check_domains(message.virtual_hosts, hosts_path)
    limit = message.max_direct_response_body_size_bytes
    max_body_bytes = limit.value if message.HasField("max_direct_response_body_size_bytes") else MAX_BODY_BYTES
    return RouteConfiguration(
        name=message.name,
        virtual_hosts=tuple(
            _find_virtual_host(host, at(hosts_path, index), max_body_bytes)
            for index, host in enumerate(message.virtual_hosts)
        ),
        ignores_port=message.ignore_port_in_host_matching,
        ignores_path_parameters=message.ignore_path_parameters_in_path_matching,
        features=features_of(message, FIELDS, path),
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


def _find_virtual_host(message: Any, path: str, max_body_bytes: int) -> VirtualHost:
    key = blake2b(message.SerializeToString(deterministic=True), digest_size=16).digest(), max_body_bytes
    found = _in_use.get(key)
    if found is None:
        try:
            found = _in_use[key] = _decode_virtual_host(message, max_body_bytes)
        except FieldInvalid as invalid:
            raise FieldInvalid(f"{path}.{invalid.path}".rstrip("."), invalid.reason) from None
    return found


def _decode_virtual_host(message: Any, max_body_bytes: int) -> VirtualHost:
    """With paths inside it, which hold wherever it stands."""
    check_constraints(message)
    features = features_of(message, FIELDS)
    if message.HasField("retry_policy"):
        name = DEFAULT_RETRY if is_default_retry(message.retry_policy) else "VirtualHost.retry_policy"
        features += (Feature(name=name, path="retry_policy"),)
    return VirtualHost(
        name=message.name,
        domains=tuple(message.domains),
        routes=tuple(
            _decode_route(route, at("routes", index), max_body_bytes) for index, route in enumerate(message.routes)
        ),
        features=features,
    )


def _decode_route(message: Any, path: str, max_body_bytes: int) -> Route:
    return Route(
        name=message.name,
        match=decode_route_match(message.match, under(path, "match")),
        action=decode_action(message, path, max_body_bytes),
        features=features_of(message, FIELDS, path) + tuple(features_of_action(message, path)),
    )


TYPE = ResourceType(
    name="RDS", type_url=type_url_of(route_pb2.RouteConfiguration), is_full_state=False, decode=_decode
)
