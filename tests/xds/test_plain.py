"""kmesh.xds.plain: resources as plain values."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import json_format, wrappers_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from kmesh.xds.plain import resource_to_plain

PREFIX = "type.googleapis.com/"


def plain(message: Message) -> dict[str, Any]:
    return resource_to_plain(PREFIX + message.DESCRIPTOR.full_name, message.SerializeToString())


def packed(message: Message) -> AnyMessage:
    box = AnyMessage()
    box.Pack(message)
    return box


def listener() -> listener_pb2.Listener:
    made = listener_pb2.Listener(name="web", traffic_direction="OUTBOUND")
    made.address.socket_address.address = "10.0.0.1"
    made.address.socket_address.port_value = 80
    made.per_connection_buffer_limit_bytes.value = 1 << 20
    made.metadata.filter_metadata["istio"].update({"services": [{"host": "reviews", "weight": 0.5}], "off": None})
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix="web", cluster="reviews")
    proxy.idle_timeout.FromSeconds(90)
    made.filter_chains.add().filters.add(name="tcp").typed_config.CopyFrom(packed(proxy))
    return made


def cluster() -> cluster_pb2.Cluster:
    made = cluster_pb2.Cluster(name="reviews", type="EDS", lb_policy="RANDOM")
    made.common_lb_config.healthy_panic_threshold.value = 12.5
    made.alt_stat_name = "über"
    made.typed_extension_protocol_options["acme"].CopyFrom(packed(wrappers_pb2.BytesValue(value=b"\xff")))
    made.ring_hash_lb_config.minimum_ring_size.value = 2**40
    made.ring_hash_lb_config.hash_function = "MURMUR_HASH_2"
    return made


def assignment() -> endpoint_pb2.ClusterLoadAssignment:
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name="reviews")
    endpoint = made.endpoints.add(priority=1).lb_endpoints.add(health_status="DRAINING")
    endpoint.endpoint.address.pipe.path = "/run/a"
    endpoint.endpoint.health_check_config.port_value = 1
    return made


@pytest.mark.parametrize("message", [listener(), cluster(), assignment()], ids=lambda m: m.DESCRIPTOR.name)
def test_is_the_json_form_of_proto3(message: Message) -> None:
    got = plain(message)
    assert got["@type"] == PREFIX + message.DESCRIPTOR.full_name
    assert got == json_format.MessageToDict(packed(message), preserving_proto_field_name=True)


@pytest.mark.parametrize(
    "type_url, body, want",
    [
        pytest.param(
            "example.com/acme.v1.Unheard",
            b"\x08\x01",
            {"@type": "example.com/acme.v1.Unheard", "value_base64": "CAE="},
            id="type that is not loaded",
        ),
        pytest.param("", b"", {"@type": "", "value_base64": ""}, id="no type"),
        pytest.param(
            PREFIX + "envoy.config.cluster.v3.Cluster",
            b"\xff",
            {"@type": PREFIX + "envoy.config.cluster.v3.Cluster", "value_base64": "/w=="},
            id="bytes of another type",
        ),
    ],
)
def test_what_cannot_be_unpacked_is_shown_as_it_is(type_url: str, body: bytes, want: dict[str, str]) -> None:
    assert resource_to_plain(type_url, body) == want
    outer = cluster_pb2.Cluster()
    outer.typed_extension_protocol_options["acme"].CopyFrom(AnyMessage(type_url=type_url, value=body))
    assert plain(outer)["typed_extension_protocol_options"] == {"acme": want}


def test_enum_value_of_a_later_version_is_its_number() -> None:
    made = cluster_pb2.Cluster()
    made.lb_policy = 99
    assert plain(made)["lb_policy"] == 99


@pytest.mark.parametrize("value, want", [(nan, "NaN"), (inf, "Infinity"), (-inf, "-Infinity")])
def test_floats_that_json_lacks(value: float, want: str) -> None:
    made = cluster_pb2.Cluster()
    made.common_lb_config.healthy_panic_threshold.value = value
    assert plain(made)["common_lb_config"]["healthy_panic_threshold"]["value"] == want
