"""udp_proxy: the one UDP listener filter that decides where datagrams go."""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2

from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import NetworkFilter, UdpProxy, UnsupportedNetworkFilter
from kmesh.xds.resources.extension import Extension, open_extension, parse_extension
from kmesh.xds.resources.field import FieldInvalid, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["UDP_PROXY", "decode_udp_proxy"]

UDP_PROXY = udp_proxy_pb2.UdpProxyConfig.DESCRIPTOR.full_name
_ROUTE = route_pb2.Route.DESCRIPTOR.full_name


def decode_udp_proxy(extension: Extension, path: str) -> NetworkFilter:
    """A matcher is honoured when it always takes the same route."""
    config = parse_extension(extension, udp_proxy_pb2.UdpProxyConfig, path)
    limitations = limitations_of(config, FIELDS, path)
    if config.WhichOneof("route_specifier") == "cluster":
        return UdpProxy(cluster=config.cluster, limitations=limitations)
    where = under(path, "matcher")
    matcher_limits = limitations_of(config.matcher, FIELDS, where)
    if matcher_limits or not config.matcher.on_no_match.HasField("action"):
        refusal = Limitation(feature="UdpProxyConfig.matcher", path=where, effect=Effect.REFUSED)
        return UnsupportedNetworkFilter(limitations=(*limitations, refusal))
    cluster, route_limits = _decode_route(config.matcher.on_no_match.action, under(where, "on_no_match.action"))
    return UdpProxy(cluster=cluster, limitations=limitations + route_limits)


def _decode_route(action: Any, path: str) -> tuple[str, tuple[Limitation, ...]]:
    where = under(path, "typed_config")
    extension = open_extension(action.typed_config, where)
    if extension.type_name != _ROUTE:
        raise FieldInvalid(where, f"must be a {_ROUTE}")
    route = parse_extension(extension, route_pb2.Route, where)
    return route.cluster, limitations_of(route, FIELDS, where)
