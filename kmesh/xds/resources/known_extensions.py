"""Extensions by type name: which change nothing for the connections carried here, and which are only known.

A name in no table is refused, or invalid where Envoy, too, would have to know it.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "HTTP_INSPECTOR",
    "HTTP_ROUTER",
    "INERT_HTTP_FILTERS",
    "INERT_IF_EMPTY",
    "INERT_LISTENER_FILTERS",
    "INERT_NETWORK_FILTERS",
    "ORIGINAL_DST_FILTER",
    "RAW_BUFFER",
    "SYSTEM_DNS_RESOLVERS",
    "TERMINAL_NETWORK_FILTERS",
]

HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
HTTP_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
ORIGINAL_DST_FILTER = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
RAW_BUFFER = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"

_SNIFFS = "tells filter chains what the first bytes are; a chain that asks for it says so in its match"
_TELEMETRY = "reports, and leaves connections alone"

INERT_LISTENER_FILTERS: Mapping[str, str] = {
    HTTP_INSPECTOR: _SNIFFS,
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": _SNIFFS,
}
"""Type name -> why it changes nothing; so are the tables below."""

INERT_NETWORK_FILTERS: Mapping[str, str] = {
    "envoy.tcp.metadataexchange.config.MetadataExchange": "Istio's: speaks only over its own ALPN, inside TLS",
    "stats.PluginConfig": f"Istio's: {_TELEMETRY}",
    "istio.stats": f"Istio's: {_TELEMETRY}",
}

INERT_HTTP_FILTERS: Mapping[str, str] = {
    "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig": _TELEMETRY,
    "envoy.extensions.filters.http.cors.v3.Cors": "acts only on routes that configure it, which are refused",
    "io.istio.http.peer_metadata.Config": "Istio's: tells its telemetry who the peer is",
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": "Istio's: sets ALPN inside TLS",
    "stats.PluginConfig": f"Istio's: {_TELEMETRY}",
    "istio.stats": f"Istio's: {_TELEMETRY}",
}

INERT_IF_EMPTY: Mapping[str, str] = {
    "envoy.extensions.filters.http.fault.v3.HTTPFault": "no fault of its own; routes that add one are refused",
}
"""HTTP filters that change nothing while their own configuration is empty."""

TERMINAL_NETWORK_FILTERS: frozenset[str] = frozenset(
    f"envoy.extensions.filters.network.{name}"
    for name in (
        "direct_response.v3.Config",
        "dubbo_proxy.v3.DubboProxy",
        "echo.v3.Echo",
        "generic_proxy.v3.GenericProxy",
        "redis_proxy.v3.RedisProxy",
        "reverse_tunnel.v3.DrainAwareHttpConnectionManager",
        "reverse_tunnel.v3.ReverseTunnel",
        "thrift_proxy.v3.ThriftProxy",
    )
) | {
    "envoy.extensions.filters.network.dynamic_modules.v3.DynamicModuleNetworkFilter",
    "envoy.extensions.filters.network.wasm.v3.Wasm",
}
"""Envoy's filters that may end a chain, beside those decoded here. Valid, and their connections are refused."""

SYSTEM_DNS_RESOLVERS: Mapping[str, str] = {
    "envoy.extensions.network.dns_resolver.apple.v3.AppleDnsResolverConfig": "asks the system's servers, as here",
    "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig": "asks as the system does",
}
