"""Whatever bytes come in, a decoder gives a model or ResourceInvalid, and its errors stay short."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.errors import ResourceInvalid
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import ALL
from tests.support.resources import (
    encode,
    endpoint,
    filter_chain,
    http_manager,
    listener,
    route_to,
    socket_address,
    static_cluster,
    tcp_proxy,
    typed,
    udp_listener,
)

ADS = {"ads": {}, "resource_api_version": "V3"}
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
STRUCT = typed("udpa.type.v1.TypedStruct", type_url="type.googleapis.com/stats.PluginConfig", value={"a": [1, "b"]})
RAW = typed("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
POLICY = {"typed_extension_config": typed("envoy.extensions.load_balancing_policies.maglev.v3.Maglev")}
METADATA = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}
GROUPS = [
    {"lb_endpoints": [endpoint(), endpoint("::1", 81, load_balancing_weight=2, metadata=METADATA)]},
    {"locality": {"region": "r"}, "lb_endpoints": [endpoint(port=82)], "load_balancing_weight": 3, "priority": 1},
]
POLICIES = {"drop_overloads": [{"category": "a", "drop_percentage": {"numerator": 3}}], "overprovisioning_factor": 1}
ROUTES = {
    "name": "r",
    "virtual_hosts": [
        {
            "name": "v",
            "domains": ["*", "a.test"],
            "routes": [
                route_to("c"),
                {"match": {"path": "/a"}, "redirect": {"https_redirect": True}},
                {
                    "match": {"prefix": "/", "headers": [{"name": "h", "present_match": True}]},
                    "route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}]}},
                },
            ],
        }
    ],
}

SEEDS: dict[str, list[dict[str, Any]]] = {
    "CDS": [
        static_cluster(
            endpoint(health_status=2),
            transport_socket_matches=[{"name": "x", "match": {"a": "b"}, "transport_socket": RAW}],
            typed_extension_protocol_options={HTTP: typed(HTTP, use_downstream_protocol_config={})["typed_config"]},
            load_balancing_policy={"policies": [POLICY]},
            filters=[STRUCT],
            circuit_breakers={"thresholds": [{"max_connections": 3}]},
        ),
        {"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": ADS, "service_name": "s"}},
        static_cluster(endpoint("a.test")) | {"type": "STRICT_DNS", "dns_refresh_rate": "3s"},
        {"name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"},
    ],
    "EDS": [{"cluster_name": "c", "endpoints": GROUPS, "policy": POLICIES}],
    "LDS": [
        listener(
            STRUCT,
            http_manager(rds={"route_config_name": "r", "config_source": ADS}),
            listener_filters=[typed("envoy.extensions.filters.listener.original_dst.v3.OriginalDst")],
            additional_addresses=[{"address": socket_address("::1", 3)}],
        ),
        listener(
            filter_chains=[
                filter_chain(
                    tcp_proxy(weighted_clusters={"clusters": [{"name": "c", "weight": 3}]}),
                    filter_chain_match={
                        "destination_port": 1,
                        "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}],
                        "server_names": ["a.test"],
                    },
                    transport_socket=RAW,
                )
            ],
            default_filter_chain=filter_chain(http_manager(route_config=ROUTES)),
        ),
        udp_listener(typed("envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", stat_prefix="x", cluster="c")),
    ],
    "RDS": [ROUTES],
}


def decode_or_reject(kind: ResourceType, body: bytes) -> None:
    try:
        name, _ = kind.decode(body)
    except ResourceInvalid as invalid:
        assert invalid.type_url == kind.type_url
        assert len(str(invalid)) < 3000
    else:
        assert name


kinds = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)


@kinds
@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300))
def test_garbage(kind: ResourceType, body: bytes) -> None:
    decode_or_reject(kind, body)


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid resource with a few bytes replaced, removed, doubled or put in from another place."""
    body = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        stop = min(len(body), start + draw(st.integers(0, 12)))
        match draw(st.sampled_from(("set", "cut", "double", "graft"))):
            case "set" if start < len(body):
                body[start] = draw(st.integers(0, 255))
            case "cut":
                del body[start:stop]
            case "double":
                body[start:start] = body[start:stop]
            case _:
                body[start:stop] = draw(st.binary(max_size=8))
    return bytes(body)


@kinds
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_resources(kind: ResourceType, data: st.DataObject) -> None:
    seeds = [encode(kind.name, seed) for seed in SEEDS[kind.name]]
    decode_or_reject(kind, data.draw(mutations(seeds)))


@kinds
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_fields(kind: ResourceType, data: st.DataObject) -> None:
    """Still well-formed protobuf: one value of the JSON form is replaced by another of its sort."""
    resource = data.draw(st.sampled_from(SEEDS[kind.name]))
    leaves = list(_leaves(resource))
    path = data.draw(st.sampled_from(leaves))
    value = _at(resource, path)
    replacement = data.draw(
        st.sampled_from(("", "x" * 70000, "\0", "*", "é", "1.2.3.4", "::"))
        if isinstance(value, str)
        else st.sampled_from((0, 1, 2, 255, 65536, 2**31 - 1))
    )
    try:
        body = encode(kind.name, _replaced(resource, path, replacement))
    except json_format.ParseError:  # the JSON form has checks of its own
        return
    decode_or_reject(kind, body)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        if not isinstance(value, bool):
            yield path
        return
    for key, inner in entries:
        yield from _leaves(inner, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _replaced(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], leaf)
    return copy


@kinds
def test_seeds_are_valid(kind: ResourceType) -> None:
    for seed in SEEDS[kind.name]:
        kind.decode(encode(kind.name, seed))


@kinds
def test_deep_nesting_is_not_protobuf(kind: ResourceType) -> None:
    """The runtime bounds how deep messages go; a bomb of a thousand levels is refused by it."""
    body = b""
    for _ in range(1000):
        body = b"\x0a" + _varint(len(body)) + body
    with pytest.raises(ResourceInvalid):
        kind.decode(body)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
