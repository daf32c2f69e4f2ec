"""RDS: RouteConfiguration.

A route configuration comes whole, whatever changed in it. So a virtual host that is in use already is known by a
digest of its bytes, and is the same object again: it is not decoded, and nothing compiles it again.

Source: envoy/config/route/v3/route.proto and route_components.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any
from weakref import WeakValueDictionary

from envoy.config.route.v3 import route_pb2

from kmesh.model.edits import NO_REWRITE
from kmesh.model.route import DEFAULT_TIMEOUT_S, Feature, RequireTls, Route, RouteConfiguration, VirtualHost
from kmesh.model.route_features import DEFAULT_RETRY, EXTERNAL_TLS
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.field import FieldInvalid, at, clip, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.resource import decode_resource, type_url_of
from kmesh.xds.resources.route_action import (
    MAX_BODY_BYTES,
    count_connect_retries,
    decode_action,
    decode_timeout,
    features_of_action,
    is_default_retry,
)
from kmesh.xds.resources.route_edits import decode_edits, decode_rewrite, features_of_edits
from kmesh.xds.resources.route_match import decode_route_match
from kmesh.xds.resources.treatment import features_of

__all__ = ["TYPE", "decode_route_configuration"]

_NO_CLUSTER_STATUS = {0: 503, 1: 404, 2: 500}

_in_use: WeakValueDictionary[tuple[bytes, int], VirtualHost] = WeakValueDictionary()
"""By digest and bound on bodies, which is all that decoding one depends on."""


def _decode(body: bytes) -> tuple[str, RouteConfiguration]:
    return decode_resource(body, route_pb2.RouteConfiguration, "name", _build)


def _build(message: Any) -> RouteConfiguration:
    return decode_route_configuration(message, "")


def decode_route_configuration(message: Any, path: str) -> RouteConfiguration:
    """Its constraints are checked here, those of a virtual host only when it is not in use already."""
    check_constraints(message, path, without=frozenset(("virtual_hosts",)))
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
        most_specific_edits_win=message.most_specific_header_mutations_wins,
        edits=decode_edits(message, path),
        features=(*features_of(message, FIELDS, path), *features_of_edits(message, path)),
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
    return VirtualHost(
        name=message.name,
        domains=tuple(message.domains),
        routes=tuple(
            _decode_route(route, at("routes", index), max_body_bytes, message.retry_policy)
            for index, route in enumerate(message.routes)
        ),
        require_tls=RequireTls[message.TlsRequirementType.Name(message.require_tls)],
        edits=decode_edits(message, ""),
        features=(*features_of(message, FIELDS), *_features_of_values(message)),
    )


def _features_of_values(message: Any) -> Iterator[Feature]:
    """Of a virtual host: what its values mean."""
    yield from features_of_edits(message, "")
    if message.require_tls == message.EXTERNAL_ONLY:
        yield Feature(name=EXTERNAL_TLS, path="require_tls")
    if message.HasField("retry_policy"):
        name = DEFAULT_RETRY if is_default_retry(message.retry_policy) else "VirtualHost.retry_policy"
        yield Feature(name=name, path="retry_policy")


def _decode_route(message: Any, path: str, max_body_bytes: int, host_retries: Any) -> Route:
    """`host_retries` is the retry policy of its virtual host, which holds where the route has none."""
    has_action = message.HasField("route")
    action = message.route
    retries = action.retry_policy if action.HasField("retry_policy") else host_retries
    idle_timeout = action.idle_timeout.ToNanoseconds() / 1e9
    return Route(
        name=message.name,
        match=decode_route_match(message.match, under(path, "match")),
        action=decode_action(message, path, max_body_bytes),
        timeout_s=decode_timeout(action, DEFAULT_TIMEOUT_S),
        idle_timeout_s=idle_timeout or None,
        connect_retries=count_connect_retries(retries) if has_action and is_default_retry(retries) else 0,
        no_cluster_status=_NO_CLUSTER_STATUS[action.cluster_not_found_response_code],
        rewrite=decode_rewrite(action, under(path, "route")) if has_action else NO_REWRITE,
        edits=decode_edits(message, path),
        features=(*features_of(message, FIELDS, path), *features_of_action(message, path)),
    )


TYPE = ResourceType(
    name="RDS", type_url=type_url_of(route_pb2.RouteConfiguration), is_full_state=False, decode=_decode
)
