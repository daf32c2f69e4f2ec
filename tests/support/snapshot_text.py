"""Snapshots written as YAML, in the field names of kmesh.model.

A resource takes its name from its key. An address is "10.0.0.1:80" or "[::1]:80", a prefix range "10.0.0.0/24", an
endpoint its address where nothing else is to be said. Where a field may hold several classes, a tag says which:
`network: !TcpProxy {clusters: [{name: a, weight: 1}]}`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from ipaddress import ip_network
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from kmesh.model import address, cluster, endpoint, limitation, listener, route
from kmesh.model.address import V4_MAPPED, SocketAddress
from kmesh.model.endpoint import Endpoint
from kmesh.model.snapshot import Snapshot

__all__ = ["parse_address", "read_snapshot"]

_CLASSES: dict[str, Any] = {
    name: getattr(module, name)
    for module in (address, cluster, endpoint, limitation, listener, route)
    for name in module.__all__
}
_PREFIX = tuple[bytes, int]


@dataclass(frozen=True)
class _Tagged:
    name: str
    value: Any


class _Loader(yaml.SafeLoader):
    pass


def _construct_tagged(loader: _Loader, name: str, node: yaml.MappingNode) -> _Tagged:
    return _Tagged(name, loader.construct_mapping(node, deep=True))


_Loader.add_multi_constructor("!", _construct_tagged)


def read_snapshot(text: str) -> Snapshot:
    return _build(Snapshot, yaml.load(text, _Loader) or {})


def parse_address(text: str) -> SocketAddress:
    host, _, port = text.rpartition(":")
    return SocketAddress.parse(host.strip("[]"), int(port))


def _build(hint: Any, value: Any) -> Any:
    if isinstance(value, _Tagged):
        return _build_fields(_CLASSES[value.name], value.value)
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _build(_plain_member(hint), value)
    if hint == _PREFIX:
        return _build_prefix(value)
    if origin is tuple:
        return _build_tuple(get_args(hint), value)
    if origin is Mapping:
        return {name: _build_named(get_args(hint)[1], name, item) for name, item in value.items()}
    if hint is SocketAddress:
        return parse_address(value)
    if hint is Endpoint and isinstance(value, str):
        return Endpoint(parse_address(value))
    if is_dataclass(hint) or hint is Endpoint:
        return _build_fields(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint[value]
    return value


def _build_fields(kind: Any, value: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    return kind(**{name: _build(hints[name], item) for name, item in value.items()})


def _build_named(hint: Any, name: str, item: Any) -> Any:
    has_name = is_dataclass(hint) and any(f.name == "name" for f in fields(hint))
    return _build(hint, {"name": name, **item} if has_name else item)


def _build_tuple(members: tuple[Any, ...], value: list[Any]) -> tuple[Any, ...]:
    if members[-1] is Ellipsis:
        return tuple(_build(members[0], item) for item in value)
    return tuple(_build(member, item) for member, item in zip(members, value, strict=True))


def _build_prefix(text: str) -> tuple[bytes, int]:
    network = ip_network(text)
    packed = network.network_address.packed
    return (V4_MAPPED + packed, network.prefixlen + 96) if network.version == 4 else (packed, network.prefixlen)


def _plain_member(hint: Any) -> Any:
    """The member of a union that needs no tag: the first that is not None."""
    return next(member for member in get_args(hint) if member is not types.NoneType)
