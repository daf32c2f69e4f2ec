"""Protobuf messages as plain values, in the proto3 JSON form but for two things.

An Any whose type is not loaded becomes its type URL and its bytes in base64, where json_format would fail; and fields
keep their proto names, as Envoy's config_dump prints them. Pure.
"""

from __future__ import annotations

from base64 import b64encode
from math import isfinite
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import Default as default_pool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.wrappers_pb2 import DoubleValue

__all__ = ["resource_to_plain"]

_WELL_KNOWN = "google.protobuf."
_INT64_TYPES = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def resource_to_plain(type_url: str, body: bytes) -> dict[str, Any]:
    """A serialized resource, "@type" first."""
    return _any_to_plain(AnyMessage(type_url=type_url, value=body))


def _any_to_plain(packed: AnyMessage) -> dict[str, Any]:
    message = _unpack(packed)
    if message is None:
        return {"@type": packed.type_url, "value_base64": b64encode(packed.value).decode()}
    plain = _message_to_plain(message)
    if _is_well_known(message):
        return {"@type": packed.type_url, "value": plain}
    return {"@type": packed.type_url, **plain}


def _unpack(packed: AnyMessage) -> Message | None:
    """What is inside, None when its type is not loaded or its bytes are not of that type."""
    try:
        descriptor = default_pool().FindMessageTypeByName(packed.type_url.rpartition("/")[2])
        return GetMessageClass(descriptor).FromString(packed.value)
    except (KeyError, DecodeError):
        return None


def _message_to_plain(message: Message) -> Any:
    if isinstance(message, AnyMessage):
        return _any_to_plain(message)
    if _is_well_known(message):
        return MessageToDict(message)
    return {field.name: _field_to_plain(field, value) for field, value in message.ListFields()}


def _field_to_plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type and field.message_type.GetOptions().map_entry:
        of_value = field.message_type.fields_by_name["value"]
        return {str(key): _value_to_plain(of_value, item) for key, item in value.items()}
    if field.is_repeated:
        return [_value_to_plain(field, item) for item in value]
    return _value_to_plain(field, value)


def _value_to_plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type:
        return _message_to_plain(value)
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b64encode(value).decode()
    if field.cpp_type in _INT64_TYPES:
        return str(value)
    if isinstance(value, float) and not isfinite(value):
        return MessageToDict(DoubleValue(value=value))
    return value


def _is_well_known(message: Message) -> bool:
    """Has a JSON form of its own (Duration, Struct, the wrappers)."""
    return message.DESCRIPTOR.full_name.startswith(_WELL_KNOWN)
