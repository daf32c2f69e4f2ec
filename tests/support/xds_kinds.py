"""Four resource types over the real protobuf messages, each boiled down to one text that tests choose.

The value "bad" is invalid, and "bug" makes the decoder fail as no decoder should.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from kmesh.errors import ResourceInvalid
from kmesh.xds.resource_type import ResourceType

_URL = "type.googleapis.com/"


def _listener(name: str, value: str) -> Any:
    return listener_pb2.Listener(name=name, stat_prefix=value)


def _cluster(name: str, value: str) -> Any:
    return cluster_pb2.Cluster(name=name, alt_stat_name=value)


def _assignment(name: str, value: str) -> Any:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    if value:
        message.endpoints.add().locality.region = value
    return message


def _route(name: str, value: str) -> Any:
    return route_pb2.RouteConfiguration(name=name, internal_only_headers=[value] if value else [])


_BUILDERS: dict[str, Callable[[str, str], Any]] = {
    "LDS": _listener,
    "RDS": _route,
    "CDS": _cluster,
    "EDS": _assignment,
}
_READERS: dict[str, tuple[Any, Callable[[Any], tuple[str, str]]]] = {
    "LDS": (listener_pb2.Listener, lambda m: (m.name, m.stat_prefix)),
    "RDS": (route_pb2.RouteConfiguration, lambda m: (m.name, "".join(m.internal_only_headers))),
    "CDS": (cluster_pb2.Cluster, lambda m: (m.name, m.alt_stat_name)),
    "EDS": (
        endpoint_pb2.ClusterLoadAssignment,
        lambda m: (m.cluster_name, "".join(e.locality.region for e in m.endpoints)),
    ),
}


def _build_kind(short: str, *, is_full_state: bool) -> ResourceType:
    message_type, read = _READERS[short]
    url = _URL + message_type.DESCRIPTOR.full_name

    def decode(raw: bytes) -> tuple[str, object]:
        try:
            name, value = read(message_type.FromString(raw))
        except DecodeError as error:
            raise ResourceInvalid(url, "", "", f"not protobuf: {error}") from error
        if value == "bad":
            raise ResourceInvalid(url, name, "value", "is bad")
        if value == "bug":
            raise ZeroDivisionError("a bug")
        return name, value

    return ResourceType(name=short, type_url=url, is_full_state=is_full_state, decode=decode)


CDS = _build_kind("CDS", is_full_state=True)
EDS = _build_kind("EDS", is_full_state=False)
LDS = _build_kind("LDS", is_full_state=True)
RDS = _build_kind("RDS", is_full_state=False)
KINDS = (CDS, EDS, LDS, RDS)


def build_any(kind: ResourceType, name: str, value: str = "") -> AnyMessage:
    body = _BUILDERS[kind.name](name, value).SerializeToString()
    return AnyMessage(type_url=kind.type_url, value=body)
