"""A filter chain's network filters: inert ones, then the terminal filter that decides where connections go.

Source: envoy/config/listener/v3/listener_components.proto; what must come last was tried on the real Envoy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import (
    EscapedSlashes,
    Http10,
    HttpConnectionManager,
    NetworkFilter,
    Normalization,
    StripPort,
    TcpProxy,
    UnsupportedNetworkFilter,
    WeightedCluster,
)
from kmesh.xds.resources.extension import Extension, open_extension, parse_extension
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.http_filters import limit_http_filters, limit_router
from kmesh.xds.resources.known_extensions import INERT_NETWORK_FILTERS, TERMINAL_NETWORK_FILTERS
from kmesh.xds.resources.route import decode_route_configuration
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["decode_network_filters"]

_UINT32_MAX = 2**32 - 1
_ESCAPED_SLASHES = {
    0: EscapedSlashes.KEEP_UNCHANGED,  # IMPLEMENTATION_SPECIFIC_DEFAULT
    1: EscapedSlashes.KEEP_UNCHANGED,
    2: EscapedSlashes.REJECT_REQUEST,
    3: EscapedSlashes.UNESCAPE_AND_REDIRECT,
    4: EscapedSlashes.UNESCAPE_AND_FORWARD,
}
_CODECS = {0: "AUTO", 1: "HTTP1", 2: "HTTP2", 3: "HTTP3"}


def decode_network_filters(filters: Any, path: str) -> NetworkFilter:
    """What the filters at `path` amount to. A chain without filters closes its connections, so refusing is exact."""
    if not filters:
        return _unsupported("a filter chain without filters", path)
    limitations: list[Limitation] = []
    for index, entry in enumerate(filters):
        limitations.extend(limitations_of(entry, FIELDS, at(path, index)))
    for index, entry in enumerate(filters[:-1]):
        limitations.extend(_limit_before_last(_open(entry, at(path, index)), at(path, index)))
    here = at(path, len(filters) - 1)
    last = _decode_terminal(_open(filters[-1], here), here)
    if not limitations:
        return last
    return UnsupportedNetworkFilter(limitations=(*limitations, *last.limitations))


def _open(entry: Any, path: str) -> Extension | None:
    """None when the filter's configuration is to be discovered."""
    if entry.HasField("config_discovery"):
        return None
    return open_extension(entry.typed_config, under(path, "typed_config"))


def _limit_before_last(extension: Extension | None, path: str) -> tuple[Limitation, ...]:
    if extension is None:
        return (_refused("config_discovery", path),)
    if extension.type_name in _DECODERS:
        raise FieldInvalid(path, f"{extension.type_name} must be the last filter")
    return () if extension.type_name in INERT_NETWORK_FILTERS else (_refused(extension.type_name, path),)


def _decode_terminal(extension: Extension | None, path: str) -> NetworkFilter:
    if extension is None:
        return _unsupported("config_discovery", path)
    decode = _DECODERS.get(extension.type_name)
    if decode is not None:
        return decode(extension, under(path, "typed_config"))
    if extension.type_name in TERMINAL_NETWORK_FILTERS:
        return _unsupported(extension.type_name, path)
    raise FieldInvalid(path, f"{extension.type_name} is not a filter that can end a chain")


def _decode_tcp_proxy(extension: Extension, path: str) -> TcpProxy:
    proxy = parse_extension(extension, tcp_proxy_pb2.TcpProxy, path)
    clusters = tuple(WeightedCluster(entry.name, entry.weight) for entry in proxy.weighted_clusters.clusters)
    if proxy.WhichOneof("cluster_specifier") == "cluster":
        clusters = (WeightedCluster(proxy.cluster, 1),)
    if sum(entry.weight for entry in clusters) > _UINT32_MAX:
        raise FieldInvalid(under(path, "weighted_clusters"), f"the sum of weights exceeds {_UINT32_MAX}")
    return TcpProxy(
        clusters=clusters,
        has_source_ip_hash=bool(proxy.hash_policy),
        limitations=limitations_of(proxy, FIELDS, path),
    )


def _decode_http(extension: Extension, path: str) -> HttpConnectionManager:
    manager = parse_extension(
        extension, http_connection_manager_pb2.HttpConnectionManager, path, without=frozenset(("route_config",))
    )
    normalization = _decode_normalization(manager, path)
    limitations = limitations_of(manager, FIELDS, path) + _limit_codec(manager, path)
    limitations += _limit_slashes(normalization, path) + _limit_targets(manager, path)
    limitations += limit_router(manager.http_filters, under(path, "http_filters"))
    for index, upgrade in enumerate(manager.upgrade_configs):
        here = at(under(path, "upgrade_configs"), index)
        limitations += limitations_of(upgrade, FIELDS, here)
        limitations += limit_http_filters(upgrade.filters, under(here, "filters"))
    if manager.HasField("rds") and not manager.rds.route_config_name:
        raise FieldInvalid(under(path, "rds.route_config_name"), "must not be empty")
    return HttpConnectionManager(
        route_config=decode_route_configuration(manager.route_config, under(path, "route_config"))
        if manager.HasField("route_config")
        else None,
        rds_name=manager.rds.route_config_name,
        normalization=normalization,
        http10=_decode_http10(manager.http_protocol_options),
        limitations=limitations,
    )


def _decode_normalization(manager: Any, path: str) -> Normalization:
    strip_port = StripPort.MATCHING if manager.strip_matching_host_port else StripPort.NONE
    if manager.strip_any_host_port:
        if strip_port is StripPort.MATCHING:
            raise FieldInvalid(under(path, "strip_any_host_port"), "excludes strip_matching_host_port")
        strip_port = StripPort.ANY
    return Normalization(
        escaped_slashes=_ESCAPED_SLASHES[manager.path_with_escaped_slashes_action],
        normalizes_path=manager.normalize_path.value,
        merges_slashes=manager.merge_slashes,
        strip_port=strip_port,
        strips_trailing_dot=manager.strip_trailing_host_dot,
    )


def _decode_http10(options: Any) -> Http10 | None:
    return Http10(default_host=options.default_host_for_http_10) if options.accept_http_10 else None


def _limit_targets(manager: Any, path: str) -> tuple[Limitation, ...]:
    """Absolute targets are taken apart unless that is switched off, which nothing here does."""
    options = manager.http_protocol_options
    if not options.HasField("allow_absolute_url") or options.allow_absolute_url.value:
        return ()
    name = "allow_absolute_url"
    return (
        Limitation(
            feature=f"Http1ProtocolOptions.{name} of false",
            path=under(path, f"http_protocol_options.{name}"),
            effect=Effect.UNENFORCED,
        ),
    )


def _limit_codec(manager: Any, path: str) -> tuple[Limitation, ...]:
    """AUTO and HTTP1 take what clients speak; the others demand that it be translated or turned away."""
    codec = _CODECS[manager.codec_type]
    return () if codec in ("AUTO", "HTTP1") else (_refused(f"codec_type {codec}", under(path, "codec_type")),)


def _limit_slashes(normalization: Normalization, path: str) -> tuple[Limitation, ...]:
    """Where connections are decided at connect, paths are kept unchanged, which is also the default."""
    if normalization.escaped_slashes is EscapedSlashes.KEEP_UNCHANGED:
        return ()
    name = "path_with_escaped_slashes_action"
    return (Limitation(feature=name, path=under(path, name), effect=Effect.UNENFORCED),)


def _unsupported(feature: str, path: str) -> UnsupportedNetworkFilter:
    return UnsupportedNetworkFilter(limitations=(_refused(feature, path),))


def _refused(feature: str, path: str) -> Limitation:
    return Limitation(feature=feature, path=path, effect=Effect.REFUSED)


_DECODERS: Mapping[str, Callable[[Extension, str], NetworkFilter]] = {
    tcp_proxy_pb2.TcpProxy.DESCRIPTOR.full_name: _decode_tcp_proxy,
    http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR.full_name: _decode_http,
}
