"""CDS: Cluster.

Source: envoy/config/cluster/v3/cluster.proto; what is invalid was tried on the real Envoy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.extensions.upstreams.tcp.v3 import tcp_protocol_options_pb2

from kmesh.model.cluster import DEFAULT_CONNECT_TIMEOUT_S, Cluster, Discovery, LbPolicy, UpstreamHttp
from kmesh.model.endpoint import ClusterLoadAssignment
from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources.address import decode_host, decode_socket
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.discovery import Found, decode_discovery
from kmesh.xds.resources.endpoint import decode_assignment
from kmesh.xds.resources.extension import Extension, open_extension, parse_extension
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.http_filters import limit_http_filters
from kmesh.xds.resources.known_extensions import INERT_NETWORK_FILTERS
from kmesh.xds.resources.lb_policy import decode_lb_policy
from kmesh.xds.resources.resource import decode_resource, type_url_of
from kmesh.xds.resources.transport import decode_transports
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["TYPE"]

_HTTP_OPTIONS = http_protocol_options_pb2.HttpProtocolOptions.DESCRIPTOR.full_name
_TCP_OPTIONS = tcp_protocol_options_pb2.TcpProtocolOptions.DESCRIPTOR.full_name
_USE_DOWNSTREAM_PROTOCOL = 1
_UNLIMITED = 2**32 - 1
_THRESHOLDS = ("max_connections", "max_pending_requests", "max_requests", "max_retries", "max_connection_pools")


def _decode(body: bytes) -> tuple[str, Cluster]:
    return decode_resource(body, cluster_pb2.Cluster, "name", _build)


def _build(message: Any) -> Cluster:
    check_constraints(message)
    found = decode_discovery(message)
    balancing = decode_lb_policy(message)
    _check_consistency(message, found, balancing.policy)
    assignment = _decode_inline(message, found)
    transports, transport_limits = decode_transports(message)
    upstream_http, http_limits = _decode_protocol_options(message)
    return Cluster(
        name=message.name,
        discovery=found.discovery,
        lb_policy=balancing.policy,
        eds_service_name=_eds_name(message) if found.discovery is Discovery.EDS else "",
        assignment=None if assignment is None else replace(assignment, limitations=()),
        is_locality_weighted=balancing.is_locality_weighted,
        panic_threshold_percent=message.common_lb_config.healthy_panic_threshold.value,
        connect_timeout_s=message.connect_timeout.ToNanoseconds() / 1e9 or DEFAULT_CONNECT_TIMEOUT_S,
        upstream_http=upstream_http,
        transports=transports,
        dns=found.dns,
        limitations=(
            *limitations_of(message, FIELDS),
            *found.limitations,
            *balancing.limitations,
            *transport_limits,
            *http_limits,
            *_limit_filters(message.filters),
            *_limit_circuit_breakers(message.circuit_breakers),
            *(() if assignment is None else assignment.limitations),
        ),
    )


def _check_consistency(message: Any, found: Found, policy: LbPolicy) -> None:
    """What Envoy demands of fields together."""
    is_original_dst = found.discovery is Discovery.ORIGINAL_DST
    if found.discovery is Discovery.EDS:
        if not message.eds_cluster_config.HasField("eds_config"):
            raise FieldInvalid("eds_cluster_config.eds_config", "is required for EDS")
    elif message.HasField("eds_cluster_config"):
        raise FieldInvalid("eds_cluster_config", "is for EDS clusters only")
    legacy_provided = message.lb_policy == cluster_pb2.Cluster.CLUSTER_PROVIDED
    if is_original_dst and not (legacy_provided and policy is LbPolicy.CLUSTER_PROVIDED):
        raise FieldInvalid("lb_policy", "ORIGINAL_DST takes CLUSTER_PROVIDED only")
    if is_original_dst and message.load_assignment.endpoints:
        raise FieldInvalid("load_assignment", "ORIGINAL_DST takes none")
    if policy is LbPolicy.CLUSTER_PROVIDED and not (is_original_dst or found.is_foreign):
        raise FieldInvalid("lb_policy", f"{found.discovery.value} clusters do not provide one")


def _decode_inline(message: Any, found: Found) -> ClusterLoadAssignment | None:
    """The endpoints of STATIC and DNS clusters, none when there is no load_assignment. EDS does not read it."""
    match found.discovery:
        case Discovery.EDS | Discovery.ORIGINAL_DST:
            return None
        case Discovery.LOGICAL_DNS:
            if [len(group.lb_endpoints) for group in message.load_assignment.endpoints] != [1]:
                raise FieldInvalid("load_assignment.endpoints", "LOGICAL_DNS takes one endpoint in one locality")
    if found.is_foreign or not message.HasField("load_assignment"):
        return ClusterLoadAssignment(name=message.name)
    decode_address = decode_socket if found.discovery is Discovery.STATIC else decode_host
    return decode_assignment(message.load_assignment, "load_assignment", decode_address)


def _eds_name(message: Any) -> str:
    name: str = message.eds_cluster_config.service_name or message.name
    return name


def _decode_protocol_options(message: Any) -> tuple[UpstreamHttp, tuple[Limitation, ...]]:
    """From the HttpProtocolOptions extension, or where there is none from the older fields beside it."""
    http: UpstreamHttp | None = None
    limitations: list[Limitation] = []
    for name, config in message.typed_extension_protocol_options.items():
        path = at("typed_extension_protocol_options", name)
        extension = open_extension(config, path)
        if extension.type_name == _HTTP_OPTIONS:
            http, limits = _decode_http_options(extension, path)
            limitations.extend(limits)
        elif extension.type_name == _TCP_OPTIONS:
            options = parse_extension(extension, tcp_protocol_options_pb2.TcpProtocolOptions, path)
            limitations.extend(limitations_of(options, FIELDS, path))
        else:
            limitations.append(Limitation(feature=extension.type_name, path=path, effect=Effect.REFUSED))
    return http or _legacy_http(message), tuple(limitations)


def _decode_http_options(extension: Extension, path: str) -> tuple[UpstreamHttp, tuple[Limitation, ...]]:
    options = parse_extension(extension, http_protocol_options_pb2.HttpProtocolOptions, path)
    limitations = limitations_of(options, FIELDS, path)
    limitations += limit_http_filters(options.http_filters, under(path, "http_filters"))
    match options.WhichOneof("upstream_protocol_options"):
        case "use_downstream_protocol_config":
            return UpstreamHttp.DOWNSTREAM, limitations
        case "explicit_http_config" if options.explicit_http_config.HasField("http2_protocol_options"):
            return UpstreamHttp.HTTP2, limitations
        case _:
            return UpstreamHttp.HTTP1, limitations


def _legacy_http(message: Any) -> UpstreamHttp:
    if message.protocol_selection == _USE_DOWNSTREAM_PROTOCOL:
        return UpstreamHttp.DOWNSTREAM
    return UpstreamHttp.HTTP2 if message.HasField("http2_protocol_options") else UpstreamHttp.HTTP1


def _limit_filters(filters: Iterable[Any]) -> Iterable[Limitation]:
    """Upstream network filters: what is not known to be inert refuses the cluster."""
    for index, entry in enumerate(filters):
        path = at("filters", index)
        if entry.HasField("config_discovery"):
            yield Limitation(feature="config_discovery", path=path, effect=Effect.REFUSED)
            continue
        extension = open_extension(entry.typed_config, under(path, "typed_config"))
        if extension.type_name not in INERT_NETWORK_FILTERS:
            yield Limitation(feature=extension.type_name, path=path, effect=Effect.REFUSED)


def _limit_circuit_breakers(breakers: Any) -> Iterable[Limitation]:
    """Istiod sets every threshold to 2**32-1, which asks for nothing."""
    for thresholds in (*breakers.thresholds, *breakers.per_host_thresholds):
        limits = [getattr(thresholds, name) for name in _THRESHOLDS if thresholds.HasField(name)]
        if any(limit.value != _UNLIMITED for limit in limits):
            yield Limitation(feature="Cluster.circuit_breakers", path="circuit_breakers", effect=Effect.UNENFORCED)
            return


TYPE = ResourceType(name="CDS", type_url=type_url_of(cluster_pb2.Cluster), is_full_state=True, decode=_decode)
