"""ClusterLoadAssignment: the common way and the long way agree, and what is refused is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kmesh.errors import ResourceInvalid
from kmesh.model.address import SocketAddress
from kmesh.model.endpoint import ClusterLoadAssignment, DropOverload, Endpoint, Health, Locality, LocalityEndpoints
from kmesh.model.limitation import Effect
from kmesh.xds.resources.endpoint import TYPE
from tests.support.resources import encode, endpoint, socket_address

MAX = 2**32 - 1


def decode(body: dict[str, Any] | bytes) -> ClusterLoadAssignment:
    raw = body if isinstance(body, bytes) else encode("EDS", {"cluster_name": "c", **body})
    got = TYPE.decode(raw)[1]
    assert isinstance(got, ClusterLoadAssignment)
    return got


def group(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"lb_endpoints": list(endpoints), **more}


def at(ip: str, port: int) -> SocketAddress:
    return SocketAddress.parse(ip, port)


def test_decodes_everything_that_is_honoured() -> None:
    tls = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio", "n": 1, "a": "b"}, "istio": {}}}
    got = decode(
        {
            "endpoints": [
                group(
                    endpoint("10.0.0.1", 80, load_balancing_weight=3, health_status="HEALTHY"),
                    endpoint("2001:db8::1", 81, health_status="DEGRADED", metadata=tls),
                    locality={"region": "r", "zone": "z", "sub_zone": "s"},
                    load_balancing_weight=7,
                ),
                group(endpoint("10.0.0.2", 82, health_status="DRAINING"), priority=2),
            ],
            "policy": {
                "overprovisioning_factor": 200,
                "weighted_priority_health": True,
                "drop_overloads": [
                    {"category": "a", "drop_percentage": {"numerator": 5}},
                    {"category": "b", "drop_percentage": {"numerator": 7, "denominator": "TEN_THOUSAND"}},
                ],
            },
        }
    )
    want = ClusterLoadAssignment(
        name="c",
        localities=(
            LocalityEndpoints(
                locality=Locality("r", "z", "s"),
                endpoints=(
                    Endpoint(at("10.0.0.1", 80), 3),
                    Endpoint(at("2001:db8::1", 81), 1, Health.DEGRADED, (), (("a", "b"), ("tlsMode", "istio"))),
                ),
                weight=7,
            ),
            LocalityEndpoints(
                locality=Locality(), endpoints=(Endpoint(at("10.0.0.2", 82), 1, Health.DRAINING),), priority=2
            ),
        ),
        overprovisioning_factor=200,
        weighted_priority_health=True,
        drops=(DropOverload(category="a", per_million=50_000), DropOverload(category="b", per_million=700)),
    )
    assert got == want


@pytest.mark.parametrize(
    ("status", "want"),
    [
        ("UNKNOWN", Health.HEALTHY),
        ("HEALTHY", Health.HEALTHY),
        ("UNHEALTHY", Health.UNHEALTHY),
        ("DRAINING", Health.DRAINING),
        ("TIMEOUT", Health.UNHEALTHY),
        ("DEGRADED", Health.DEGRADED),
    ],
)
def test_folds_health(status: str, want: Health) -> None:
    got = decode({"endpoints": [group(endpoint(health_status=status))]})
    assert got.localities[0].endpoints[0].health is want


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(endpoint("10.0.0.1", 80), id="plain"),
        pytest.param(endpoint("::1", 80, load_balancing_weight=9, health_status=3), id="weight and health"),
        pytest.param(
            endpoint(
                "::ffff:10.0.0.1", 80, metadata={"filter_metadata": {"envoy.transport_socket_match": {"a": "b"}}}
            ),
            id="metadata",
        ),
    ],
)
def test_both_ways_give_the_same(body: dict[str, Any]) -> None:
    """A field that these messages do not know, anywhere, sends every endpoint the long way."""
    raw = encode("EDS", {"cluster_name": "c", "endpoints": [group(body)]})
    common, long = decode(raw), decode(raw + b"\xf8\x3f\x01")
    assert common.localities == long.localities
    assert common.limitations == ()
    assert [limit.feature for limit in long.limitations] == ["ClusterLoadAssignment field 1023"]


def test_finds_unknown_fields_in_an_endpoint() -> None:
    unknown = b"\xf8\x3f\x01"
    got = decode(wrap(1, b"c") + wrap(2, wrap(2, encode_endpoint() + unknown)))
    assert [(limit.feature, limit.effect) for limit in got.limitations] == [("LbEndpoint field 1023", Effect.REFUSED)]
    assert len(got.localities[0].endpoints) == 1


def encode_endpoint() -> bytes:
    """A serialized LbEndpoint at 127.0.0.1:80."""
    socket = wrap(2, b"127.0.0.1") + b"\x18\x50"
    return wrap(1, wrap(1, wrap(1, socket)))


def wrap(number: int, body: bytes) -> bytes:
    """A length-delimited field of fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(body)]) + body


def test_keeps_the_first_of_equal_addresses() -> None:
    got = decode(
        {
            "endpoints": [
                group(endpoint(port=81, load_balancing_weight=3), endpoint(port=81), endpoint(port=82)),
                group(endpoint(port=81), endpoint(port=83), priority=1),
            ]
        }
    )
    assert [[(e.address.port, e.weight) for e in g.endpoints] for g in got.localities] == [
        [(81, 3), (82, 1)],
        [(83, 1)],
    ]


def test_accepts_a_gap_in_priorities_as_envoy_does() -> None:
    got = decode({"endpoints": [group(endpoint(), priority=3)]})
    assert [g.priority for g in got.localities] == [3]


def test_decodes_additional_addresses() -> None:
    body = endpoint("10.0.0.1", 80)
    body["endpoint"]["additional_addresses"] = [{"address": socket_address("2001:db8::1", 80)}]
    got = decode({"endpoints": [group(body)]})
    assert got.localities[0].endpoints[0].additional == (at("2001:db8::1", 80),)


def _with_address(**address: Any) -> dict[str, Any]:
    return {"endpoint": {"address": address}}


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param(_with_address(pipe={"path": "/x"}), "endpoint with pipe", id="pipe"),
        pytest.param(
            _with_address(envoy_internal_address={"server_listener_name": "x"}),
            "endpoint with envoy_internal_address",
            id="internal",
        ),
        pytest.param(endpoint("fe80::1%eth0"), "endpoint with a zone", id="zone"),
        pytest.param({"endpoint_name": "x"}, "LbEndpoint.endpoint_name", id="endpoint_name"),
    ],
)
def test_refuses_endpoints_that_cannot_be_reached(body: dict[str, Any], want: str) -> None:
    got = decode({"endpoints": [group(body, endpoint())]})
    assert [(limit.feature, limit.effect) for limit in got.limitations] == [(want, Effect.REFUSED)]
    assert len(got.localities[0].endpoints) == 1


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param(
            {"endpoints": [{"leds_cluster_locality_config": {"leds_collection_name": "x"}}]},
            ("LocalityLbEndpoints.leds_cluster_locality_config", Effect.REFUSED),
            id="leds",
        ),
        pytest.param(
            {"policy": {"endpoint_stale_after": "5s"}},
            ("Policy.endpoint_stale_after", Effect.UNENFORCED),
            id="stale after",
        ),
        pytest.param(
            {"endpoints": [group(_with_address(**socket_address("10.0.0.1", 1, network_namespace_filepath="/n")))]},
            ("SocketAddress.network_namespace_filepath", Effect.REFUSED),
            id="namespace",
        ),
    ],
)
def test_limits(body: dict[str, Any], want: tuple[str, Effect]) -> None:
    got = decode(body)
    assert [(limit.feature, limit.effect) for limit in got.limitations] == [want]


FIRST = "endpoints[0].lb_endpoints[0]"
SOCKET = FIRST + ".endpoint.address.socket_address"


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        pytest.param({}, FIRST + ".endpoint.address", "is required", id="empty"),
        pytest.param({"endpoint": {}}, FIRST + ".endpoint.address", "is required", id="no address"),
        pytest.param(endpoint("foo"), SOCKET + ".address", "'foo' is not an IP address", id="name"),
        pytest.param(
            endpoint("010.0.0.1"), SOCKET + ".address", "'010.0.0.1' is not an IP address", id="leading zero"
        ),
        pytest.param(endpoint("1.2.3"), SOCKET + ".address", "'1.2.3' is not an IP address", id="short"),
        pytest.param(endpoint("1.2.3.4\0"), SOCKET + ".address", r"'1.2.3.4\x00' is not an IP address", id="NUL"),
        pytest.param(endpoint(""), SOCKET + ".address", "must not be empty", id="empty address"),
        pytest.param(endpoint(port=0), SOCKET + ".port_value", "is 0, which nothing can connect to", id="port 0"),
        pytest.param(endpoint(port=65536), SOCKET + ".port_value", "is 65536, must be <= 65535", id="port too high"),
        pytest.param(
            _with_address(socket_address={"address": "10.0.0.1", "named_port": "http"}),
            SOCKET + ".named_port",
            "is not a number",
            id="named port",
        ),
        pytest.param(
            _with_address(**socket_address("10.0.0.1", 1, resolver_name="x")),
            SOCKET + ".resolver_name",
            "'x' is no address resolver",
            id="resolver",
        ),
        pytest.param(
            endpoint(load_balancing_weight=0), FIRST + ".load_balancing_weight", "is 0, must be >= 1", id="weight 0"
        ),
        pytest.param(endpoint(health_status=77), FIRST + ".health_status", "77 is no HealthStatus", id="health"),
    ],
)
def test_rejects_endpoint(body: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode({"endpoints": [group(body)]})
    error = caught.value
    assert (error.type_url, error.name, error.path, error.reason) == (TYPE.type_url, "c", path, reason)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param({"cluster_name": ""}, "cluster_name", id="no name"),
        pytest.param(
            {"endpoints": [group(endpoint(load_balancing_weight=MAX), endpoint(port=81))]},
            "endpoints[0].lb_endpoints",
            id="endpoint weights overflow",
        ),
        pytest.param(
            {
                "endpoints": [
                    group(locality={"zone": "a"}, load_balancing_weight=MAX, priority=1),
                    group(load_balancing_weight=1, priority=1),
                ]
            },
            "endpoints",
            id="locality weights overflow",
        ),
        pytest.param({"endpoints": [group(priority=129)]}, "endpoints[0].priority", id="priority"),
        pytest.param(
            {"endpoints": [group(load_balancing_weight=0)]},
            "endpoints[0].load_balancing_weight",
            id="locality weight 0",
        ),
        pytest.param(
            {"policy": {"overprovisioning_factor": 0}}, "policy.overprovisioning_factor", id="overprovisioning 0"
        ),
        pytest.param(
            {"policy": {"drop_overloads": [{"category": "a", "drop_percentage": {"numerator": 101}}]}},
            "policy.drop_overloads[0].drop_percentage",
            id="drops more than all",
        ),
    ],
)
def test_rejects_assignment(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode(body)
    assert caught.value.path == path


def test_weights_of_different_priorities_do_not_add_up() -> None:
    decode({"endpoints": [group(load_balancing_weight=MAX), group(load_balancing_weight=MAX, priority=1)]})


def test_rejects_what_is_not_protobuf() -> None:
    with pytest.raises(ResourceInvalid) as caught:
        decode(b"\x0a\xff")
    assert (caught.value.name, caught.value.path) == ("", "")


def test_a_name_of_64_kib_is_a_name_and_errors_stay_short() -> None:
    name = "x" * 65536
    assert decode({"cluster_name": name}).name == name
    with pytest.raises(ResourceInvalid) as caught:
        decode({"cluster_name": name, "endpoints": [group(endpoint("y" * 65536))]})
    assert len(str(caught.value)) < 700
