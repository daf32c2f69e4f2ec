"""Extensions: the typed_config Any of filters, policies and transports, read by type only or as a known message.

An Any is never resolved through protobuf's type registry: what may come is in tables, by type name, and extensions
that xds-protos does not have (Istio's own) are known by name alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from udpa.type.v1 import typed_struct_pb2 as udpa_typed_struct
from xds.type.v3 import typed_struct_pb2 as xds_typed_struct

from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.field import FieldInvalid, clip

__all__ = ["Extension", "open_extension", "parse_extension"]

M = TypeVar("M", bound=Message)

_LONGEST_NAME = 256
_TYPED_STRUCTS = {
    "udpa.type.v1.TypedStruct": udpa_typed_struct.TypedStruct,
    "xds.type.v3.TypedStruct": xds_typed_struct.TypedStruct,
}


@dataclass(frozen=True, slots=True)
class Extension:
    """A configured extension. `type_name` is the full message name, without "type.googleapis.com/"."""

    type_name: str
    body: bytes
    """The serialized message; of a TypedStruct, its serialized Struct."""
    is_struct: bool
    """Came as a TypedStruct: `body` is not the named message's own encoding."""

    @property
    def is_empty(self) -> bool:
        """Configured with every default. An empty body means that in both forms."""
        return not self.body


def open_extension(config: Any, path: str) -> Extension:
    """What `config` at `path` holds, one TypedStruct unwrapped.

    Raises: FieldInvalid when there is no type, or the TypedStruct is malformed.
    """
    type_name = _type_name(config.type_url, path)
    typed_struct = _TYPED_STRUCTS.get(type_name)
    if typed_struct is None:
        return Extension(type_name, config.value, is_struct=False)
    inner = typed_struct()
    _merge(inner, config.value, path)
    body = inner.value.SerializeToString(deterministic=True)
    return Extension(_type_name(inner.type_url, path), body, is_struct=True)


def parse_extension(
    extension: Extension, message: type[M], path: str, *, without: frozenset[str] = frozenset()
) -> M:
    """The extension as `message`, which it must be (compare type names first), checked against its constraints.

    `without` names fields that are checked by whoever decodes them.
    Raises: FieldInvalid, also for a TypedStruct: its JSON form is for extensions whose messages Envoy does not know.
    """
    if extension.is_struct:
        raise FieldInvalid(path, f"{extension.type_name} must be typed, not a TypedStruct")
    out = message()
    _merge(out, extension.body, path)
    check_constraints(out, path, without=without)
    return out


def _merge(message: Message, body: bytes, path: str) -> None:
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise FieldInvalid(path, f"is not a {message.DESCRIPTOR.full_name}") from None


def _type_name(type_url: str, path: str) -> str:
    name = type_url.rpartition("/")[2]
    if not 0 < len(name) <= _LONGEST_NAME:
        raise FieldInvalid(path, f"{clip(type_url)} is no type URL")
    return name
