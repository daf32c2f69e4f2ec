"""What the protocol must know of a resource type; a new type is one file in kmesh/xds/resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ResourceType"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """One xDS type."""

    name: str
    """Short name for people: "LDS"."""
    type_url: str
    is_full_state: bool
    """LDS and CDS: a SotW response holds every resource, so absence deletes; and the subscription is the wildcard."""
    decode: Callable[[bytes], tuple[str, object]]
    """Serialized resource -> (name, validated model object).

    Raises: ResourceInvalid, with the name where it could be read. Anything else it raises is a bug of the decoder,
    which the protocol turns into a NACK all the same.
    """
