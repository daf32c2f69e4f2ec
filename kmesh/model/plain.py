"""Model objects as plain values that JSON can carry and an outline can show. Pure; goes by their shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args

from kmesh.model.address import V4_MAPPED, HostAddress, SocketAddress
from kmesh.model.endpoint import Endpoint
from kmesh.model.listener import NetworkFilter
from kmesh.model.match import PresentMatch, RangeMatch, StringMatch
from kmesh.model.route import Action

__all__ = ["to_plain"]

_ONE_OF_SEVERAL = (*get_args(NetworkFilter), *get_args(Action), StringMatch, RangeMatch, PresentMatch)
"""Classes that stand where another might: their plain form says which, as "type"."""


def to_plain(value: object, *, has_defaults: bool = True) -> Any:
    """Dataclasses, endpoints and mappings as dicts, tuples as lists, enums by name, addresses and prefixes as text.

    Without `has_defaults`, fields that hold their default are left out.
    """
    match value:
        case None | str() | bool() | int() | float() if not isinstance(value, Enum):
            return value
        case Enum():
            return value.name
        case SocketAddress() | HostAddress():
            return str(value)
        case bytes():
            return value.decode(errors="backslashreplace")
        case (bytes() as network, int() as length):
            return _print_prefix(network, length)
        case Endpoint():
            defaults = Endpoint._field_defaults
            return {
                name: to_plain(held, has_defaults=has_defaults)
                for name, held in value._asdict().items()
                if has_defaults or name not in defaults or held != defaults[name]
            }
        case tuple():
            return [to_plain(item, has_defaults=has_defaults) for item in value]
        case Mapping():
            return {str(key): to_plain(item, has_defaults=has_defaults) for key, item in value.items()}
        case _ if is_dataclass(value):
            return _fields_to_plain(value, has_defaults)
        case _:
            raise TypeError(f"{type(value).__name__} is not a model value")


def _fields_to_plain(value: Any, has_defaults: bool) -> dict[str, Any]:
    plain = {"type": type(value).__name__} if isinstance(value, _ONE_OF_SEVERAL) else {}
    for field in fields(value):
        held = getattr(value, field.name)
        if has_defaults or held != field.default:
            plain[field.name] = to_plain(held, has_defaults=has_defaults)
    return plain


def _print_prefix(network: bytes, length: int) -> str:
    """A prefix of kmesh.model.listener.FilterChainMatch, in its family's own notation."""
    is_v4 = network[:12] == V4_MAPPED and length >= 96
    ip = SocketAddress(network, 0).ip
    return f"{ip}/{length - 96 if is_v4 else length}"
