"""From the resources of one response to decoded ones and errors. Never raises for what a server may send.

A resource comes as an Any, bare or in the wrapper `envoy.service.discovery.v3.Resource`, which adds a name, a
version and a TTL. Source: xDS protocol, "Resource types", "TTL" and "Knowing when a requested resource does not
exist"; gRFC A46 (good resources of a bad response count).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from kmesh.errors import ResourceInvalid
from kmesh.xds.cache import Cache
from kmesh.xds.resource_type import ResourceType

__all__ = ["Batch", "Decoded", "Received", "decode_resources", "unwrap_any", "unwrap_resource"]

log = logging.getLogger(__name__)

_WRAPPER_URL = "type.googleapis.com/envoy.service.discovery.v3.Resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A resource out of its wrapper, not decoded yet."""

    name: str
    """From the wrapper; "" when only the body can tell."""
    version: str
    type_url: str
    body: bytes | None
    """None: no body, as in a heartbeat."""
    ttl_s: float | None
    """None: it does not expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A valid resource. `model` is None when the bytes are those already held, or it was a heartbeat."""

    name: str
    version: str
    raw: bytes
    model: object | None
    ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A response's resources. No name is both in `resources` and in an error."""

    resources: Mapping[str, Decoded]
    errors: tuple[ResourceInvalid, ...]
    is_heartbeat: bool
    """Nothing but heartbeats: it extends TTLs, and says nothing about resources that it leaves out."""

    @property
    def has_nameless_error(self) -> bool:
        """A resource was so broken that nobody knows which one it is."""
        return any(not error.name for error in self.errors)


def unwrap_any(item: AnyMessage, version: str) -> Received:
    """SotW: `version` is the response's. Raises: ResourceInvalid for a wrapper that cannot be parsed."""
    if item.type_url != _WRAPPER_URL:
        return Received(name="", version=version, type_url=item.type_url, body=item.value, ttl_s=None)
    try:
        wrapper = discovery_pb2.Resource.FromString(item.value)
    except DecodeError as error:
        raise ResourceInvalid(item.type_url, "", "", f"not a serialized Resource: {error}") from error
    return unwrap_resource(wrapper, wrapper.version or version)


def unwrap_resource(wrapper: Any, version: str) -> Received:
    """`wrapper` is a discovery_pb2.Resource."""
    ttl_s = wrapper.ttl.seconds + wrapper.ttl.nanos / 1e9 if wrapper.HasField("ttl") else None
    body = wrapper.resource.value if wrapper.HasField("resource") else None
    return Received(name=wrapper.name, version=version, type_url=wrapper.resource.type_url, body=body, ttl_s=ttl_s)


def decode_resources(
    kind: ResourceType,
    items: Iterable[Any],
    unwrap: Callable[[Any], Received],
    cache: Cache,
    *,
    current_version: str | None = None,
    removed: Collection[str] = (),
) -> Batch:
    """Decode each item on its own; a name that comes twice, or is in `removed` as well, is an error.

    `current_version` is the type's last accepted version in SotW, where a heartbeat repeats that one; None in
    delta, where it repeats the resource's own.
    """
    decoded: dict[str, Decoded] = {}
    errors: list[ResourceInvalid] = []
    repeated: set[str] = set()
    has_body = False
    for item in items:
        try:
            received = unwrap(item)
            has_body = has_body or received.body is not None
            one = _decode(kind, received, cache, current_version)
        except ResourceInvalid as error:
            errors.append(error)
            continue
        if one.name in decoded or one.name in removed:
            repeated.add(one.name)
        decoded[one.name] = one
    for name in sorted(repeated):
        errors.append(ResourceInvalid(kind.type_url, name, "", "appears more than once in one response"))
    for invalid in errors:
        decoded.pop(invalid.name, None)
    return Batch(resources=decoded, errors=tuple(errors), is_heartbeat=bool(decoded) and not has_body and not errors)


def _decode(kind: ResourceType, received: Received, cache: Cache, current_version: str | None) -> Decoded:
    if received.body is None:
        return _decode_heartbeat(kind, received, cache, current_version)
    if received.type_url != kind.type_url:
        reason = f"is {received.type_url!r} in a response of {kind.type_url!r}"
        raise ResourceInvalid(kind.type_url, received.name, "", reason)
    name, model = cache.name_of(received.body), None
    if name is None:
        name, model = _run_decoder(kind, received, received.body)
    if not name:
        raise ResourceInvalid(kind.type_url, received.name, "name", "is empty")
    if received.name and received.name != name:
        raise ResourceInvalid(kind.type_url, received.name, "name", f"the resource calls itself {name[:256]!r}")
    return Decoded(name=name, version=received.version, raw=received.body, model=model, ttl_s=received.ttl_s)


def _decode_heartbeat(kind: ResourceType, received: Received, cache: Cache, current_version: str | None) -> Decoded:
    held = cache.get(received.name)
    if held is None or received.version not in (held.version, current_version):
        raise ResourceInvalid(kind.type_url, received.name, "resource", "is absent, and no such version is held")
    return Decoded(name=received.name, version=held.version, raw=held.raw, model=None, ttl_s=received.ttl_s)


def _run_decoder(kind: ResourceType, received: Received, body: bytes) -> tuple[str, object]:
    try:
        return kind.decode(body)
    except ResourceInvalid as error:
        if error.name or not received.name:
            raise
        raise ResourceInvalid(error.type_url, received.name, error.path, error.reason) from error
    except Exception as error:  # a decoder's bug costs one resource, not the stream
        log.exception("xds decoder failed", extra={"xds_type": kind.name, "resource": received.name})
        reason = f"the decoder failed: {type(error).__name__}: {error}"
        raise ResourceInvalid(kind.type_url, received.name, "", reason) from error
