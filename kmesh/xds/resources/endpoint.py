"""EDS: ClusterLoadAssignment, and the same message inside STATIC and DNS clusters.

A mesh has hundreds of thousands of endpoints and nearly all of them are an address, a weight, a health and perhaps
transport metadata: `_decode_common` takes those, and leaves the rest to the table-driven way of every other message.
Source: envoy/config/endpoint/v3/endpoint.proto and endpoint_components.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from envoy.config.endpoint.v3 import endpoint_pb2

from kmesh.model.address import HostAddress, SocketAddress
from kmesh.model.endpoint import ClusterLoadAssignment, DropOverload, Endpoint, Health, Locality, LocalityEndpoints
from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources.address import decode_socket
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.resource import decode_resource, type_url_of
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["TYPE", "decode_assignment"]

Address = SocketAddress | HostAddress

_UINT32_MAX = 2**32 - 1
_TRANSPORT_MATCH = "envoy.transport_socket_match"
_HEALTH = {
    0: Health.HEALTHY,  # UNKNOWN: not health-checked
    1: Health.HEALTHY,
    2: Health.UNHEALTHY,
    3: Health.DRAINING,
    4: Health.UNHEALTHY,  # TIMEOUT
    5: Health.DEGRADED,
}
_PER_MILLION = {0: 10_000, 1: 100, 2: 1}
"""FractionalPercent.DenominatorType -> millionths in one."""
_NO_ENDPOINTS = frozenset({"endpoints"})
_NO_LB_ENDPOINTS = frozenset({"lb_endpoints"})


@dataclass(frozen=True, slots=True)
class _Way:
    """How the endpoints of one assignment are decoded."""

    decode_address: Callable[[Any, str], Address]
    is_common: bool
    """Endpoints may go the short way: IP addresses, and no field anywhere that these messages do not know."""
    limitations: list[Limitation]


def decode_assignment(
    message: Any, path: str, decode_address: Callable[[Any, str], Address], *, is_common: bool = False
) -> ClusterLoadAssignment:
    """The assignment at `path` of its resource; its limitations are of the whole tree."""
    check_constraints(message, path, without=_NO_ENDPOINTS)
    way = _Way(decode_address, is_common, list(limitations_of(message, FIELDS, path)))
    groups_path = under(path, "endpoints")
    groups = [_decode_group(group, at(groups_path, index), way) for index, group in enumerate(message.endpoints)]
    _check_priority_weights(groups, groups_path)
    policy = message.policy
    return ClusterLoadAssignment(
        name=message.cluster_name,
        localities=tuple(groups),
        overprovisioning_factor=policy.overprovisioning_factor.value or 140,
        weighted_priority_health=policy.weighted_priority_health,
        drops=_decode_drops(policy.drop_overloads, under(path, "policy.drop_overloads")),
        limitations=tuple(way.limitations),
    )


def _decode(body: bytes) -> tuple[str, ClusterLoadAssignment]:
    return decode_resource(body, endpoint_pb2.ClusterLoadAssignment, "cluster_name", lambda m: _decode_eds(m, body))


def _decode_eds(message: Any, body: bytes) -> ClusterLoadAssignment:
    """Discarding unknown fields from the whole tree tells whether there are any, far faster than looking."""
    size = message.ByteSize()
    message.DiscardUnknownFields()
    is_common = message.ByteSize() == size
    if not is_common:
        message.ParseFromString(body)
    return _keep_first_of_each(decode_assignment(message, "", decode_socket, is_common=is_common))


def _decode_group(group: Any, path: str, way: _Way) -> LocalityEndpoints:
    check_constraints(group, path, without=_NO_LB_ENDPOINTS)
    way.limitations.extend(limitations_of(group, FIELDS, path))
    path = under(path, "lb_endpoints")
    endpoints = tuple(_decode_endpoints(group.lb_endpoints, path, way))
    if sum(e.weight for e in endpoints) > _UINT32_MAX:
        raise FieldInvalid(path, f"the sum of load_balancing_weight exceeds {_UINT32_MAX}")
    where = group.locality
    return LocalityEndpoints(
        locality=Locality(where.region, where.zone, where.sub_zone),
        endpoints=endpoints,
        priority=group.priority,
        weight=group.load_balancing_weight.value or None,
    )


def _decode_endpoints(lb_endpoints: Iterable[Any], path: str, way: _Way) -> Iterable[Endpoint]:
    for index, lb_endpoint in enumerate(lb_endpoints):
        endpoint = _decode_common(lb_endpoint) if way.is_common else None
        if endpoint is None:
            endpoint = _decode_any(lb_endpoint, at(path, index), way)
        if endpoint is not None:
            yield endpoint


def _decode_common(lb_endpoint: Any) -> Endpoint | None:
    """The endpoint when all its fields are common ones with allowed values; None sends it the long way."""
    endpoint = lb_endpoint.endpoint
    socket = endpoint.address.socket_address
    port = socket.port_value
    weight = lb_endpoint.load_balancing_weight.value
    health = _HEALTH.get(lb_endpoint.health_status)
    if not port or health is None or socket.resolver_name or socket.network_namespace_filepath:
        return None
    if endpoint.additional_addresses or (not weight and lb_endpoint.HasField("load_balancing_weight")):
        return None
    transport_match = _decode_transport_match(lb_endpoint.metadata) if lb_endpoint.HasField("metadata") else ()
    try:
        return Endpoint(SocketAddress.parse(socket.address, port), weight or 1, health, (), transport_match)
    except ValueError:
        return None


def _decode_any(lb_endpoint: Any, path: str, way: _Way) -> Endpoint | None:
    """The endpoint; None when it cannot be reached from here, which `way` then has as a limitation."""
    check_constraints(lb_endpoint, path)
    way.limitations.extend(limitations_of(lb_endpoint, FIELDS, path))
    if lb_endpoint.WhichOneof("host_identifier") == "endpoint_name":
        return None
    where = under(path, "endpoint.address")
    address = lb_endpoint.endpoint.address
    unreachable = _unreachable_kind(address, where)
    if unreachable is not None:
        way.limitations.append(Limitation(feature=unreachable, path=where, effect=Effect.REFUSED))
        return None
    health = _HEALTH.get(lb_endpoint.health_status)
    if health is None:
        raise FieldInvalid(under(path, "health_status"), f"{lb_endpoint.health_status} is no HealthStatus")
    host = way.decode_address(address.socket_address, under(where, "socket_address"))
    _require_port(host, where)
    return Endpoint(
        host,
        lb_endpoint.load_balancing_weight.value or 1,
        health,
        tuple(_decode_additional(lb_endpoint.endpoint, under(path, "endpoint"))),
        _decode_transport_match(lb_endpoint.metadata),
    )


def _unreachable_kind(address: Any, path: str) -> str | None:
    """What makes a valid address one that no connection from here can reach, or None."""
    match address.WhichOneof("address"):
        case "socket_address":
            return "endpoint with a zone" if "%" in address.socket_address.address else None
        case None:
            raise FieldInvalid(path, "is required")
        case kind:
            return f"endpoint with {kind}"


def _decode_additional(endpoint: Any, path: str) -> Iterable[SocketAddress]:
    for index, additional in enumerate(endpoint.additional_addresses):
        where = under(at(under(path, "additional_addresses"), index), "address")
        if not additional.address.HasField("socket_address"):
            raise FieldInvalid(where, "must be a socket_address")
        address = decode_socket(additional.address.socket_address, under(where, "socket_address"))
        _require_port(address, where)
        yield address


def _require_port(address: Address, path: str) -> None:
    if not address.port:
        raise FieldInvalid(under(path, "socket_address.port_value"), "is 0, which nothing can connect to")


def _decode_transport_match(metadata: Any) -> tuple[tuple[str, str], ...]:
    filters = metadata.filter_metadata
    if _TRANSPORT_MATCH not in filters:
        return ()
    fields = filters[_TRANSPORT_MATCH].fields
    return tuple(sorted((k, v.string_value) for k, v in fields.items() if v.WhichOneof("kind") == "string_value"))


def _check_priority_weights(groups: list[LocalityEndpoints], path: str) -> None:
    totals: dict[int, int] = {}
    for group in groups:
        totals[group.priority] = totals.get(group.priority, 0) + (group.weight or 0)
    for priority, total in totals.items():
        if total > _UINT32_MAX:
            raise FieldInvalid(path, f"the sum of load_balancing_weight at priority {priority} exceeds {_UINT32_MAX}")


def _keep_first_of_each(assignment: ClusterLoadAssignment) -> ClusterLoadAssignment:
    """Of endpoints with one address, in any priority, Envoy's EDS keeps the first (its static clusters keep all)."""
    groups = assignment.localities
    if len({e.address for g in groups for e in g.endpoints}) == sum(len(g.endpoints) for g in groups):
        return assignment
    seen: set[Address] = set()
    kept: list[LocalityEndpoints] = []
    for group in groups:
        firsts: list[Endpoint] = []
        for endpoint in group.endpoints:
            if endpoint.address not in seen:
                seen.add(endpoint.address)
                firsts.append(endpoint)
        kept.append(replace(group, endpoints=tuple(firsts)))
    return replace(assignment, localities=tuple(kept))


def _decode_drops(drops: Iterable[Any], path: str) -> tuple[DropOverload, ...]:
    out: list[DropOverload] = []
    for index, drop in enumerate(drops):
        share = drop.drop_percentage
        per_million = share.numerator * _PER_MILLION[share.denominator]
        if per_million > 1_000_000:
            raise FieldInvalid(under(at(path, index), "drop_percentage"), "is more than the whole")
        out.append(DropOverload(category=drop.category, per_million=per_million))
    return tuple(out)


TYPE = ResourceType(
    name="EDS",
    type_url=type_url_of(endpoint_pb2.ClusterLoadAssignment),
    is_full_state=False,
    decode=_decode,
)
