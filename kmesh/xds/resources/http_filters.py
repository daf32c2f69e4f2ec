"""HTTP filters: a chain of known inert ones that ends in the router changes nothing; any other is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.extensions.filters.http.router.v3 import router_pb2

from kmesh.model.limitation import Effect, Limitation
from kmesh.xds.resources.extension import Extension, open_extension, parse_extension
from kmesh.xds.resources.field import FieldInvalid, at, under
from kmesh.xds.resources.fields import FIELDS
from kmesh.xds.resources.known_extensions import HTTP_ROUTER, INERT_HTTP_FILTERS, INERT_IF_EMPTY
from kmesh.xds.resources.treatment import limitations_of

__all__ = ["limit_http_filters", "limit_router"]

_UPSTREAM_CODEC = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"


def limit_http_filters(filters: Iterable[Any], path: str) -> tuple[Limitation, ...]:
    """The filters of `path` that are not known to change nothing. The router and its upstream twin are the end."""
    out: list[Limitation] = []
    for index, entry in enumerate(filters):
        here = at(path, index)
        out.extend(limitations_of(entry, FIELDS, here))
        out.extend(_limit(entry, here))
    return tuple(out)


def limit_router(filters: Any, path: str) -> tuple[Limitation, ...]:
    """A filter chain of an HTTP connection manager, which the router must end.

    Raises: FieldInvalid when it does not, or is not last, as in Envoy. Without any filter no request is answered.
    """
    if not filters:
        return (Limitation(feature="no HTTP filters, not even the router", path=path, effect=Effect.REFUSED),)
    for index, entry in enumerate(filters):
        here = at(path, index)
        is_last = index == len(filters) - 1
        if entry.HasField("config_discovery"):
            continue
        type_name = open_extension(entry.typed_config, under(here, "typed_config")).type_name
        if type_name == HTTP_ROUTER and (not is_last or entry.disabled):
            raise FieldInvalid(here, "the router must be last, and not disabled")
        if is_last and (type_name in INERT_HTTP_FILTERS or type_name in INERT_IF_EMPTY):
            raise FieldInvalid(here, f"{type_name} cannot be the last HTTP filter")
    return limit_http_filters(filters, path)


def _limit(entry: Any, path: str) -> tuple[Limitation, ...]:
    if entry.HasField("config_discovery"):
        return (Limitation(feature="config_discovery", path=path, effect=Effect.REFUSED),)
    where = under(path, "typed_config")
    extension = open_extension(entry.typed_config, where)
    if entry.disabled or _is_inert(extension):
        return ()
    if extension.type_name != HTTP_ROUTER:
        return (Limitation(feature=extension.type_name, path=path, effect=Effect.REFUSED),)
    router = parse_extension(extension, router_pb2.Router, where)
    inner = limit_http_filters(router.upstream_http_filters, under(where, "upstream_http_filters"))
    return limitations_of(router, FIELDS, where) + inner


def _is_inert(extension: Extension) -> bool:
    name = extension.type_name
    return name in INERT_HTTP_FILTERS or name == _UPSTREAM_CODEC or (name in INERT_IF_EMPTY and extension.is_empty)
