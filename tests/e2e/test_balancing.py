"""Where connections go: choice of endpoint, refusals, families, datagrams, and what istiod configures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.support.backends import http_backend
from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane
from tests.support.envoy import wait_until
from tests.support.name_server import Address
from tests.support.resources import filter_chain, route_to
from tests.support.services import (
    ADS,
    assignment,
    captured,
    eds_cluster,
    http_to,
    locality,
    member,
    parse,
    static_cluster,
    tcp_service,
    tcp_to,
    udp_service,
)

VIP = ("127.96.0.1", 80)
OTHER = ("127.96.0.2", 80)
VIP6 = ("fd00:96::1", 80)
REFUSED = "ECONNREFUSED"

Servers = dict[str, Address]
Publish = Callable[..., None]


@pytest.fixture
def publish(bridge: Bridge, control_plane: ControlPlane) -> Publish:
    """Publish resources and wait until they are in the kernel."""

    def publish(*resources: Message) -> None:
        bridge.wait_until_serves(control_plane.publish(*resources))

    return publish


def assert_split(got: Counter[str], want: dict[str, float]) -> None:
    """Within five standard deviations of each share."""
    total = got.total()
    assert set(got) == set(want)
    for name, share in want.items():
        assert abs(got[name] - total * share) <= 5 * (total * share * (1 - share)) ** 0.5, got


# Choice


def test_weighted_clusters(publish: Publish, client: Client, servers: Servers) -> None:
    publish(
        captured("shop", VIP, tcp_to(a=80, b=15, c=5)),
        *(static_cluster(name, servers[name]) for name in "abc"),
    )
    assert_split(client.tally(VIP, 4000), {"a": 0.80, "b": 0.15, "c": 0.05})


def test_round_robin_is_exact(publish: Publish, client: Client, servers: Servers) -> None:
    publish(*tcp_service("shop", VIP, *(servers[name] for name in "abcde")))
    got = client.answers(VIP, 50)
    assert sorted(got[:5]) == list("abcde")
    assert got == got[:5] * 10


def test_round_robin_keeps_its_place_over_unrelated_changes(
    publish: Publish, client: Client, servers: Servers
) -> None:
    shop = tcp_service("shop", VIP, *(servers[name] for name in "abc"))
    publish(*shop)
    got = client.answers(VIP, 4)
    publish(*shop, *tcp_service("other", OTHER, servers["d"]))
    got += client.answers(VIP, 5)
    assert got == got[:3] * 3


def test_random(publish: Publish, client: Client, servers: Servers) -> None:
    publish(*tcp_service("shop", VIP, *(servers[name] for name in "abcd"), lb_policy="RANDOM"))
    got = client.answers(VIP, 2000)
    assert_split(Counter(got), dict.fromkeys("abcd", 0.25))
    assert got[:100] != got[100:200]


def test_endpoint_weights(publish: Publish, client: Client, servers: Servers) -> None:
    members = [member(servers["a"], load_balancing_weight=3), member(servers["b"], load_balancing_weight=1)]
    publish(captured("shop", VIP, tcp_to("shop")), eds_cluster("shop"), assignment("shop", locality(*members)))
    assert_split(client.tally(VIP, 2000), {"a": 0.75, "b": 0.25})


def test_locality_weights(publish: Publish, client: Client, servers: Servers) -> None:
    common: dict[str, Any] = {"locality_weighted_lb_config": {}, "healthy_panic_threshold": {"value": 0}}
    publish(
        captured("shop", VIP, tcp_to("shop")),
        eds_cluster("shop", common_lb_config=common),
        assignment(
            "shop",
            locality(member(servers["a"]), member(servers["b"]), zone="near", load_balancing_weight=9),
            locality(member(servers["c"]), zone="far", load_balancing_weight=1),
        ),
    )
    assert_split(client.tally(VIP, 2000), {"a": 0.45, "b": 0.45, "c": 0.10})


@pytest.mark.parametrize(
    ("unhealthy", "want"),
    [
        pytest.param("", {"a", "b"}, id="all well: the first priority"),
        pytest.param("a", {"b", "c"}, id="half of it left: the rest spills over"),
        pytest.param("ab", {"c"}, id="none left: the second"),
        pytest.param("abc", {REFUSED}, id="none anywhere: refused"),
    ],
)
def test_priorities(
    publish: Publish, client: Client, servers: Servers, unhealthy: str, want: set[str]
) -> None:
    def with_health(name: str) -> dict[str, Any]:
        return member(servers[name], health_status="UNHEALTHY" if name in unhealthy else "HEALTHY")

    publish(
        captured("shop", VIP, tcp_to("shop")),
        eds_cluster("shop"),
        assignment("shop", locality(*map(with_health, "ab")), locality(with_health("c"), priority=1)),
    )
    assert set(client.tally(VIP, 200)) == want


def test_an_endpoint_that_leaves_gets_no_more_connections(
    publish: Publish, client: Client, servers: Servers
) -> None:
    publish(*tcp_service("shop", VIP, servers["a"], servers["b"]))
    assert set(client.tally(VIP, 20)) == {"a", "b"}
    publish(*tcp_service("shop", VIP, servers["b"]))
    assert set(client.tally(VIP, 20)) == {"b"}


def test_a_service_that_goes_is_left_alone(publish: Publish, client: Client, servers: Servers) -> None:
    """Its address is then like any other: here the server's own."""
    address = servers["a"]
    publish(*tcp_service("shop", address, servers["b"]))
    assert client.answers(address) == ["b"]
    publish()
    assert client.answers(address) == ["a"]


def test_getpeername_shows_the_service(publish: Publish, client: Client, servers: Servers) -> None:
    publish(*tcp_service("shop", VIP, servers["a"]))
    assert [connection.peer for connection in client.connect(VIP)] == ["127.96.0.1 80"]


def test_processes_outside_the_cgroup_are_not_in_the_mesh(
    publish: Publish, bridge: Bridge, servers: Servers
) -> None:
    address = servers["a"]
    publish(*tcp_service("shop", address, servers["b"]))
    with Client(bridge.sandbox, enrolled=False) as outsider:
        assert outsider.answers(address) == ["a"]


def test_processes_of_nested_cgroups_are_in_the_mesh(publish: Publish, bridge: Bridge, servers: Servers) -> None:
    publish(*tcp_service("shop", VIP, servers["b"]))
    nested = bridge.sandbox.pods / "a" / "b"
    nested.mkdir(parents=True)
    into_nested = ["/bin/sh", "-c", f'echo 0 > {nested}/cgroup.procs; exec "$@"', "sh"]
    with Client(bridge.sandbox, prefix=into_nested) as client:
        assert client.answers(VIP) == ["b"]


# Refusals


def test_refusals_are_immediate_and_counted(
    publish: Publish, bridge: Bridge, client: Client, servers: Servers
) -> None:
    """Each listener refuses for a reason of its own, and while it does its neighbour serves."""
    addresses = {name: (f"127.96.1.{number}", 80) for number, name in enumerate(("empty", "black", "gone"), 1)}
    publish(
        captured("empty", addresses["empty"], tcp_to("empty")),
        eds_cluster("empty"),
        assignment("empty"),
        captured("black", addresses["black"], tcp_to("BlackHoleCluster")),
        static_cluster("BlackHoleCluster"),
        captured("gone", addresses["gone"], tcp_to("nowhere")),
        *tcp_service("shop", VIP, servers["a"]),
    )
    reasons = {"empty": "no_endpoint", "black": "blackhole", "gone": "no_cluster"}
    for name, reason in reasons.items():
        before = bridge.outcome(reason)
        got = client.connect(addresses[name], 20)
        assert {connection.outcome for connection in got} == {REFUSED}
        assert max(connection.seconds for connection in got) < 0.05
        assert bridge.outcome(reason) == before + 20
    assert client.answers(VIP) == ["a"]


# HTTP listeners


def test_http_listener_with_one_cluster_serves_http(publish: Publish, bridge: Bridge) -> None:
    with http_backend("one") as port:
        publish(captured("web", VIP, http_to("web")), static_cluster("web", ("127.0.0.1", port)))
        assert bridge.sandbox.run(["curl", "-sS", "--max-time", "5", "http://127.96.0.1/x"]) == "one"


def test_http_listener_whose_requests_go_different_ways_is_routed(
    publish: Publish, bridge: Bridge, client: Client, servers: Servers
) -> None:
    routes = [{"match": {"prefix": "/x"}, "route": {"cluster": "b"}}, route_to("a")]
    listener = captured("web", VIP, http_to(rds={"route_config_name": "routes", "config_source": ADS}))
    clusters = [static_cluster(name, servers[name]) for name in "ab"]

    def route_config(*routes: dict[str, Any]) -> Message:
        hosts = [{"name": "v", "domains": ["*"], "routes": list(routes)}]
        return parse("RDS", {"name": "routes", "virtual_hosts": hosts})

    publish(listener, *clusters, route_config(*routes))
    before = bridge.outcome("routed")
    assert client.answers(VIP) == ["TimeoutError"]  # no server says its name before it is asked
    assert bridge.outcome("routed") == before + 1

    publish(listener, *clusters, route_config(routes[1]))
    assert client.answers(VIP) == ["a"]
    assert bridge.outcome("routed") == before + 1


# Families


def test_ipv6(publish: Publish, client: Client, servers: Servers) -> None:
    publish(*tcp_service("shop", VIP6, servers["six"]))
    assert [(c.outcome, c.peer) for c in client.connect(VIP6)] == [("six", "fd00:96::1 80")]


def test_v4_mapped(publish: Publish, client: Client, servers: Servers) -> None:
    publish(*tcp_service("shop", VIP, servers["a"]))
    assert [(c.outcome, c.peer) for c in client.connect(("::ffff:127.96.0.1", 80))] == [("a", "::ffff:127.96.0.1 80")]


def test_endpoints_of_both_families(publish: Publish, client: Client, servers: Servers) -> None:
    """An IPv6 socket reaches both; an IPv4 socket only the one it can."""
    services = [*tcp_service("v6", VIP6, servers["a"], servers["six"]), captured("v4", VIP, tcp_to("v6"))]
    publish(*services)
    assert client.tally(VIP6, 10) == {"a": 5, "six": 5}
    assert client.tally(VIP, 10) == {"a": 5, REFUSED: 5}


# Datagrams


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
@pytest.mark.parametrize(("vip", "name"), [(VIP, "a"), (VIP6, "six")], ids=["v4", "v6"])
def test_datagrams_reach_an_endpoint_and_the_answer_shows_the_service(
    publish: Publish, client: Client, servers: Servers, vip: Address, name: str, connected: bool
) -> None:
    publish(*udp_service("dns", vip, servers[name]))
    assert client.datagrams(vip, 3, connected=connected) == [(name, f"{vip[0]} {vip[1]}")] * 3


def test_a_flow_of_datagrams_keeps_its_endpoint_and_flows_are_spread(
    publish: Publish, client: Client, servers: Servers
) -> None:
    publish(*udp_service("dns", VIP, *(servers[name] for name in "abc")))
    flows = [{outcome for outcome, _ in client.datagrams(VIP, 4, connected=False)} for _ in range(9)]
    assert all(len(flow) == 1 for flow in flows)
    assert Counter(name for flow in flows for name in flow) == {"a": 3, "b": 3, "c": 3}


def test_datagrams_without_an_endpoint_are_refused(publish: Publish, client: Client) -> None:
    publish(*udp_service("dns", VIP))
    assert client.datagrams(VIP, connected=False) == [(REFUSED, "")]
    assert client.datagrams(VIP, connected=True) == [(REFUSED, "")]


# As istiod configures it


def istiod_resources(servers: Servers) -> list[Message]:
    """One HTTP service on the shared port, one TCP service by address, ALLOW_ANY."""
    passthrough = filter_chain(tcp_to("PassthroughCluster"), name="virtualOutbound-catchall-tcp")
    blackhole = filter_chain(
        tcp_to("BlackHoleCluster"), name="virtualOutbound-blackhole", filter_chain_match={"destination_port": 15001}
    )
    hosts = [
        {"name": "a.ns.svc:8080", "domains": ["a.ns.svc", "a"], "routes": [route_to("outbound|8080||a.ns.svc")]},
        {"name": "allow_any", "domains": ["*"], "routes": [route_to("PassthroughCluster")]},
    ]
    http = http_to(rds={"route_config_name": "8080", "config_source": ADS})
    http_chain = filter_chain(
        http, filter_chain_match={"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    )
    outbound: dict[str, Any] = {"traffic_direction": "OUTBOUND"}
    default = filter_chain(tcp_to("PassthroughCluster"), name="PassthroughFilterChain")
    return [
        captured(
            "virtualOutbound",
            ("0.0.0.0", 15001),
            use_original_dst=True,
            bind_to_port=True,
            filter_chains=[blackhole, passthrough],
            **outbound,
        ),
        captured(
            "virtualInbound",
            ("0.0.0.0", 15006),
            use_original_dst=True,
            filter_chains=[filter_chain(tcp_to("InboundPassthroughCluster"))],
            traffic_direction="INBOUND",
        ),
        captured(
            "0.0.0.0_8080", ("0.0.0.0", 8080), filter_chains=[http_chain], default_filter_chain=default, **outbound
        ),
        captured("10.96.0.3_3306", ("10.96.0.3", 3306), tcp_to("outbound|3306||mysql.ns.svc"), **outbound),
        parse("RDS", {"name": "8080", "virtual_hosts": hosts, "validate_clusters": False}),
        eds_cluster("outbound|8080||a.ns.svc"),
        assignment("outbound|8080||a.ns.svc", locality(member(servers["a"]))),
        eds_cluster("outbound|3306||mysql.ns.svc"),
        assignment("outbound|3306||mysql.ns.svc", locality(member(servers["b"]), member(servers["c"]))),
        static_cluster("BlackHoleCluster"),
        *(
            parse("CDS", {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"})
            for name in ("PassthroughCluster", "InboundPassthroughCluster")
        ),
    ]


def test_istiod(publish: Publish, bridge: Bridge, client: Client, servers: Servers) -> None:
    publish(*istiod_resources(servers))
    assert client.tally(("10.96.0.3", 3306), 10) == {"b": 5, "c": 5}, "a TCP service by its address"
    passed = bridge.outcome("passed")
    assert client.answers(servers["d"]) == ["d"], "unknown to the mesh, through PassthroughCluster"
    assert bridge.outcome("passed") == passed + 1
    assert client.answers(("127.0.0.1", 15001)) == [REFUSED], "straight to the sidecar's own port"
    assert client.answers(("127.96.0.9", 8080)) == [REFUSED], "HTTP that needs routing"
    wait_until(lambda: "listener 0.0.0.0_8080" in bridge.limitations(), 2, "its report")


def test_auto_protocol_service_whose_chains_agree(publish: Publish, client: Client, servers: Servers) -> None:
    """istiod's listener of a service whose protocol is not declared: HTTP or TCP, to the same cluster."""
    cluster = "outbound|9090||auto.ns.svc"
    chain = filter_chain(http_to(cluster), filter_chain_match={"application_protocols": ["http/1.1", "h2c"]})
    publish(
        captured("auto", VIP, filter_chains=[chain], default_filter_chain=filter_chain(tcp_to(cluster))),
        eds_cluster(cluster),
        assignment(cluster, locality(member(servers["a"]))),
    )
    assert client.answers(VIP) == ["a"]


# The --config-dir of the manual, in YAML


def test_config_dir_in_yaml_and_its_changes(
    bridge: Bridge, client: Client, servers: Servers, tmp_path: Path
) -> None:
    """A bridge with an embedded server takes over the instance, then every change of the file."""

    def write(*names: str) -> None:
        endpoints = [
            f"{{endpoint: {{address: {{socket_address: {json.dumps(socket_of(servers[name]))}}}}}}}" for name in names
        ]
        text = CONFIG.replace("ENDPOINTS", ", ".join(endpoints))
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(tmp_path / "shop.yaml")

    bridge.stop()
    write("a")
    with Bridge(bridge.sandbox, "--config-dir", tmp_path, "--xds-variant", "sotw") as from_files:
        assert client.answers(VIP) == ["a"]
        write("b", "c")
        from_files.wait_for(lambda status: status["snapshot"]["endpoints"] == 2, "the change")
        from_files.wait_for(lambda status: status["apply"]["operations"] > 0, "its records")
        assert set(client.tally(VIP, 4)) == {"b", "c"}
        assert from_files.status()["xds"]["variant"] == "sotw"
    bridge.start()


def socket_of(address: Address) -> dict[str, Any]:
    return {"address": address[0], "port_value": address[1]}


CONFIG = """
resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: shop
  address: {socket_address: {address: 127.96.0.1, port_value: 80}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: shop
        cluster: shop
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: shop
  type: EDS
  eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: shop
  endpoints:
  - lb_endpoints: [ENDPOINTS]
"""
