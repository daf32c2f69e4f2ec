"""LDS: Listener.

Source: envoy/config/listener/v3/listener.proto; what is invalid was tried on the real Envoy.
"""

from __future__ import annotations

from typing import Any

from envoy.config.listener.v3 import listener_pb2

from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.limitation import Effect, Limitation
from kmesh.model.listener import (
    Detection,
    Direction,
    FilterChain,
    Listener,
    NetworkFilter,
    UnsupportedNetworkFilter,
)
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources.address import decode_protocol, decode_socket
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.extension import Extension, open_extension
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.filter_chain import check_matches_differ, decode_filter_chain
from kmesh.xds.resources.known_extensions import HTTP_INSPECTOR, INERT_LISTENER_FILTERS, ORIGINAL_DST_FILTER
from kmesh.xds.resources.resource import decode_resource, type_url_of
from kmesh.xds.resources.treatment import limitations_of
from kmesh.xds.resources.udp_proxy import UDP_PROXY, decode_udp_proxy

__all__ = ["TYPE"]

_DIRECTION = {0: Direction.UNSPECIFIED, 1: Direction.INBOUND, 2: Direction.OUTBOUND}
_Opened = list[tuple[str, Any, Extension | None]]
"""Listener filters: path, message, and its extension unless that is to be discovered."""


def _decode(body: bytes) -> tuple[str, Listener]:
    return decode_resource(body, listener_pb2.Listener, "name", _build)


def _build(message: Any) -> Listener:
    check_constraints(message)
    if message.traffic_direction not in _DIRECTION:
        raise FieldInvalid("traffic_direction", f"{message.traffic_direction} is no TrafficDirection")
    protocol, addresses, idle = _decode_addresses(message)
    filters = _open_listener_filters(message)
    limitations = [*limitations_of(message, FIELDS), *idle, *_limit_direction(message)]
    for path, entry, _ in filters:
        limitations.extend(limitations_of(entry, FIELDS, path))
    if protocol is Protocol.TCP:
        chains, default = _decode_chains(message)
        limitations.extend(_limit_listener_filters(filters))
    else:
        chains, default = (_decode_udp(message, filters),), None
    return Listener(
        name=message.name,
        addresses=addresses,
        protocol=protocol,
        bind_to_port=_binds(message),
        use_original_dst=message.use_original_dst.value or _has_original_dst_filter(filters),
        direction=_DIRECTION[message.traffic_direction],
        filter_chains=chains,
        default_filter_chain=default,
        detection=_decode_detection(message, filters),
        limitations=tuple(limitations),
    )


def _decode_addresses(message: Any) -> tuple[Protocol, tuple[SocketAddress, ...], tuple[Limitation, ...]]:
    """The addresses that connections can be captured by, and why there are none."""
    if message.HasField("api_listener") or message.HasField("internal_listener"):
        return Protocol.TCP, (), (_inactive("a listener without a socket", ""),)
    if not message.HasField("address"):
        raise FieldInvalid("address", "is required")
    entries = [(message.address, "address")]
    for index, extra in enumerate(message.additional_addresses):
        entries.append((extra.address, under(at("additional_addresses", index), "address")))
    kinds = {_kind_of(address, path) for address, path in entries}
    if len(kinds) > 1:
        raise FieldInvalid("additional_addresses", "all addresses must be of one kind and protocol")
    kind = kinds.pop()
    if not isinstance(kind, Protocol):
        return Protocol.TCP, (), (_inactive(f"listening on {kind}", "address"),)
    sockets = [_decode_listening(address, path) for address, path in entries]
    idle = tuple(limit for limit in sockets if isinstance(limit, Limitation))
    return kind, tuple(socket for socket in sockets if isinstance(socket, SocketAddress)), idle


def _kind_of(address: Any, path: str) -> Protocol | str:
    match address.WhichOneof("address"):
        case None:
            raise FieldInvalid(path, "is required")
        case "socket_address":
            return decode_protocol(address.socket_address)
        case other:
            return str(other)


def _decode_listening(address: Any, path: str) -> SocketAddress | Limitation:
    """A port of 0 is whichever is free, and a zone means one interface of one host: neither can be captured by."""
    where = under(path, "socket_address")
    if "%" in address.socket_address.address:
        return _inactive("listening on an address with a zone", where)
    socket = decode_socket(address.socket_address, where)
    return socket if socket.port else _inactive("listening on port 0", where)


def _decode_chains(message: Any) -> tuple[tuple[FilterChain, ...], FilterChain | None]:
    chains = tuple(
        decode_filter_chain(chain, at("filter_chains", index)) for index, chain in enumerate(message.filter_chains)
    )
    check_matches_differ(chains, "filter_chains")
    if message.HasField("default_filter_chain"):
        return chains, decode_filter_chain(message.default_filter_chain, "default_filter_chain")
    if not chains and not message.HasField("api_listener"):
        raise FieldInvalid("filter_chains", "a TCP listener needs at least one filter chain")
    return chains, None


def _open_listener_filters(message: Any) -> _Opened:
    out: _Opened = []
    for index, entry in enumerate(message.listener_filters):
        path = at("listener_filters", index)
        if entry.HasField("config_discovery"):
            out.append((path, entry, None))
        else:
            out.append((path, entry, open_extension(entry.typed_config, under(path, "typed_config"))))
    return out


def _limit_listener_filters(filters: _Opened) -> list[Limitation]:
    out: list[Limitation] = []
    for path, entry, extension in filters:
        if extension is None:
            out.append(_refused("config_discovery", path))
        elif extension.type_name == ORIGINAL_DST_FILTER:
            if entry.HasField("filter_disabled"):
                out.append(_refused("ListenerFilter.filter_disabled", under(path, "filter_disabled")))
        elif extension.type_name not in INERT_LISTENER_FILTERS:
            out.append(_refused(extension.type_name, path))
    return out


def _has_original_dst_filter(filters: _Opened) -> bool:
    return any(extension is not None and extension.type_name == ORIGINAL_DST_FILTER for _, _, extension in filters)


def _decode_detection(message: Any, filters: _Opened) -> Detection | None:
    """None too where the inspector is disabled for some connections, which nothing here tells apart."""
    inspectors = [entry for _, entry, extension in filters if extension and extension.type_name == HTTP_INSPECTOR]
    if not inspectors or inspectors[0].HasField("filter_disabled"):
        return None
    timeout_s = Detection().timeout_s
    if message.HasField("listener_filters_timeout"):
        timeout_s = message.listener_filters_timeout.ToNanoseconds() / 1e9 or None
    return Detection(timeout_s=timeout_s, continues=message.continue_on_listener_filters_timeout)


def _decode_udp(message: Any, filters: _Opened) -> FilterChain:
    """A UDP listener's filters as one chain that takes everything."""
    is_quic = message.udp_listener_config.HasField("quic_options")
    if message.filter_chains and not is_quic:
        raise FieldInvalid("filter_chains", "a UDP listener takes none")
    if is_quic or len(filters) != 1:
        refusal = _refused("a UDP listener that is not one udp_proxy", "listener_filters")
        return FilterChain(network=UnsupportedNetworkFilter(limitations=(refusal,)))
    path, entry, extension = filters[0]
    return FilterChain(network=_decode_udp_filter(entry, extension, path))


def _decode_udp_filter(entry: Any, extension: Extension | None, path: str) -> NetworkFilter:
    feature = "config_discovery" if extension is None else extension.type_name
    if extension is not None and feature == UDP_PROXY and not entry.HasField("filter_disabled"):
        return decode_udp_proxy(extension, under(path, "typed_config"))
    return UnsupportedNetworkFilter(limitations=(_refused(feature, path),))


def _binds(message: Any) -> bool:
    """bind_to_port is true when absent, and so is its older form."""
    for field in (message, message.deprecated_v1):
        if field.HasField("bind_to_port"):
            return bool(field.bind_to_port.value)
    return True


def _limit_direction(message: Any) -> tuple[Limitation, ...]:
    if _DIRECTION[message.traffic_direction] is not Direction.INBOUND:
        return ()
    return (_inactive("inbound listener", "traffic_direction"),)


def _inactive(feature: str, path: str) -> Limitation:
    return Limitation(feature=feature, path=path, effect=Effect.INACTIVE)


def _refused(feature: str, path: str) -> Limitation:
    return Limitation(feature=feature, path=path, effect=Effect.REFUSED)


TYPE = ResourceType(name="LDS", type_url=type_url_of(listener_pb2.Listener), is_full_state=True, decode=_decode)
