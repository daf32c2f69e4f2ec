"""Envoy's own field constraints, as the descriptors carry them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor
from validate import validate_pb2

from kmesh.xds.resources import ALL
from kmesh.xds.resources.constraints import check_constraints
from kmesh.xds.resources.field import FieldInvalid
from kmesh.xds.resources.fields import FIELDS

_POOL = descriptor_pool.Default()

_CHECKED = {
    "any.required", "bool.const", "bytes.max_len", "bytes.min_len", "double.gt", "double.gte", "double.lte",
    "duration.gt", "duration.gte", "duration.lte", "duration.required", "enum.defined_only", "enum.not_in",
    "map.keys.string.min_len", "map.min_pairs", "message.required", "repeated.items.enum.defined_only",
    "repeated.items.string.in", "repeated.items.string.min_len", "repeated.items.string.well_known_regex",
    "repeated.items.uint32.gte", "repeated.items.uint32.lt", "repeated.items.uint32.lte", "repeated.max_items",
    "repeated.min_items", "repeated.unique", "string.ignore_empty", "string.in", "string.max_bytes",
    "string.min_bytes", "string.min_len", "string.prefix", "string.suffix", "string.well_known_regex",
    "uint32.gt", "uint32.gte", "uint32.lt", "uint32.lte", "uint64.gt", "uint64.gte", "uint64.lt", "uint64.lte",
}  # fmt: skip
_NOT_CHECKED = {
    "string.pattern": "RouteMatch.path_separated_prefix: no route with one is decided at connect",
    "string.strict": "which header characters beyond NUL, CR and LF are refused",
    "repeated.items.string.strict": "the same",
}


def test_every_kind_of_rule_in_use_is_checked_or_named() -> None:
    got = set()
    for descriptor in _reachable():
        for field in descriptor.fields:
            got |= set(_rule_names(field.GetOptions().Extensions[validate_pb2.rules]))
    assert got - _CHECKED - _NOT_CHECKED.keys() == set()


def _reachable() -> Iterator[Descriptor]:
    seen: set[str] = set()
    queue = [_POOL.FindMessageTypeByName(name) for name in FIELDS]
    while queue:
        at = queue.pop()
        if at.full_name in seen or at.full_name.startswith("google.protobuf."):
            continue
        seen.add(at.full_name)
        yield at
        queue.extend(field.message_type for field in at.fields if field.message_type is not None)


def _rule_names(rules: Any, prefix: str = "") -> Iterator[str]:
    for field, value in rules.ListFields():
        is_rule = field.message_type is not None and field.message_type.full_name.startswith("validate.")
        if is_rule:
            yield from _rule_names(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _build(name: str, body: dict[str, Any]) -> Any:
    assert ALL
    return json_format.ParseDict(body, message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))())


CORE = "envoy.config.core.v3."
LISTENER = "envoy.config.listener.v3."
CLUSTER = "envoy.config.cluster.v3."
ROUTE = "envoy.config.route.v3."


@pytest.mark.parametrize(
    ("name", "body", "want"),
    [
        pytest.param(CORE + "SocketAddress", {"port_value": 1}, ("address", "must not be empty"), id="min_len"),
        pytest.param(
            CORE + "SocketAddress",
            {"address": "a", "port_value": 65536},
            ("port_value", "is 65536, must be <= 65535"),
            id="lte",
        ),
        pytest.param(CORE + "SocketAddress", {"address": "a"}, ("", "one of port_specifier is required"), id="oneof"),
        pytest.param(
            CORE + "SocketAddress",
            {"address": "a", "port_value": 1, "protocol": 9},
            ("protocol", "9 is no Protocol"),
            id="enum",
        ),
        pytest.param(
            CORE + "Address",
            {"socket_address": {"port_value": 1}},
            ("socket_address.address", "must not be empty"),
            id="nested",
        ),
        pytest.param(
            LISTENER + "FilterChainMatch",
            {"source_ports": [1, 0]},
            ("source_ports[1]", "is 0, must be >= 1"),
            id="items",
        ),
        pytest.param(
            LISTENER + "FilterChainMatch",
            {"destination_port": 0},
            ("destination_port", "is 0, must be >= 1"),
            id="wrapper",
        ),
        pytest.param(
            LISTENER + "FilterChain",
            {"filters": [{}]},
            ("filters[0].name", "must not be empty"),
            id="repeated message",
        ),
        pytest.param(
            CLUSTER + "Cluster",
            {"name": "c", "connect_timeout": "0s"},
            ("connect_timeout", "is 0 s, must be > 0 s"),
            id="duration",
        ),
        pytest.param(ROUTE + "VirtualHost", {"name": "v"}, ("domains", "needs at least 1"), id="min_items"),
        pytest.param(ROUTE + "Route", {"route": {"cluster": "c"}}, ("match", "is required"), id="required message"),
        pytest.param(
            CORE + "Metadata",
            {"filter_metadata": {"": {}}},
            ("filter_metadata['']", "must not be empty"),
            id="map key",
        ),
        pytest.param(
            ROUTE + "VirtualHost",
            {"name": "v", "domains": ["*"], "request_headers_to_remove": ["a\nb"]},
            ("request_headers_to_remove[0]", "has a character that no HTTP header may have"),
            id="header",
        ),
        pytest.param(
            ROUTE + "RouteMatch",
            {"headers": [{"name": "a", "string_match": {"safe_regex": {"regex": "a)"}}}], "prefix": "/"},
            (
                "headers[0].string_match.safe_regex.regex",
                "is not RE2 syntax: unexpected ) before offset 1 of regex 'a)'",
            ),
            id="regex",
        ),
    ],
)
def test_rejects(name: str, body: dict[str, Any], want: tuple[str, str]) -> None:
    with pytest.raises(FieldInvalid) as caught:
        check_constraints(_build(name, body))
    assert (caught.value.path, caught.value.reason) == want


@pytest.mark.parametrize(
    ("name", "body"),
    [
        pytest.param(CORE + "SocketAddress", {"address": "a", "port_value": 0}, id="zero of a chosen oneof member"),
        pytest.param(LISTENER + "FilterChainMatch", {}, id="absent wrapper"),
        pytest.param(ROUTE + "RouteMatch", {"prefix": ""}, id="empty oneof member; its siblings are not required"),
        pytest.param(CLUSTER + "Cluster", {"name": "c"}, id="absent duration"),
        pytest.param(ROUTE + "RouteMatch", {"safe_regex": {"regex": r"/\pL"}}, id="regex with a Unicode class"),
    ],
)
def test_accepts(name: str, body: dict[str, Any]) -> None:
    check_constraints(_build(name, body))


def test_skips_what_it_is_told_to() -> None:
    message = _build(ROUTE + "VirtualHost", {"name": "v"})
    check_constraints(message, without=frozenset({"domains"}))
