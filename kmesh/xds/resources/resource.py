"""The seam of every decoder: serialized resource in, (name, model) or ResourceInvalid out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from kmesh.errors import ResourceInvalid
from kmesh.xds.resources.field import FieldInvalid

__all__ = ["decode_resource", "type_url_of"]

M = TypeVar("M", bound=Message)
T = TypeVar("T")


def type_url_of(message: type[Message]) -> str:
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


def decode_resource(body: bytes, message: type[M], name_field: str, build: Callable[[M], T]) -> tuple[str, T]:
    """Parse `body` and `build` the model from it.

    Raises: ResourceInvalid, with the name as soon as there is one.
    """
    type_url = type_url_of(message)
    parsed = message()
    try:
        parsed.ParseFromString(body)
    except DecodeError:
        raise ResourceInvalid(type_url, "", "", f"is not a serialized {parsed.DESCRIPTOR.full_name}") from None
    name: str = getattr(parsed, name_field)
    if not name:
        raise ResourceInvalid(type_url, "", name_field, "must not be empty")
    try:
        return name, build(parsed)
    except FieldInvalid as invalid:
        raise ResourceInvalid(type_url, name, invalid.path, invalid.reason) from None
