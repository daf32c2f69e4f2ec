"""Bad resources over a real stream: refused by name and path; the rest is served, and the last good one stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import cluster, endpoint, listener
from kmesh.xds.server import Resource
from tests.support.ads_server import Call, bind_loopback, serve_ads
from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.loop_thread import LoopThread
from tests.support.name_server import Address
from tests.support.sandbox import Sandbox
from tests.support.services import assignment, captured, eds_cluster, locality, member, parse, tcp_service, tcp_to

LDS, CDS, EDS = listener.TYPE, cluster.TYPE, endpoint.TYPE
VIP = ("127.96.0.1", 80)
OTHER = ("127.96.0.2", 80)
LONG = "n" * 65536
NOT_PROTOBUF = "is not a serialized envoy.config.listener.v3.Listener"

Servers = dict[str, Address]
Bad = Message | AnyMessage


@dataclass(frozen=True)
class Stream:
    """The control plane's end."""

    loop: LoopThread
    call: Call

    def push(self, kind: ResourceType, *resources: Bad) -> str:
        """One response; returns the error of its NACK, "" for an ACK."""
        nonce = self.loop.run(self.call.push_bodies(kind, list(map(name_and_body, resources))))
        while True:
            request = self.loop.run(self.call.receive())
            if request.response_nonce == nonce:
                return str(request.error_detail.message)


def name_and_body(resource: Bad) -> tuple[str, Any]:
    if isinstance(resource, AnyMessage):
        return "bad", resource
    packed = Resource.pack(resource)
    return packed.name, packed.packed


@pytest.fixture(scope="module", params=["sotw", "delta"])
def bridge(sandbox: Sandbox, request: pytest.FixtureRequest, loop: LoopThread) -> Iterator[tuple[Bridge, Stream]]:
    with bind_loopback() as sock, loop.entered(serve_ads(sock)) as ads:
        options = ["--xds-server", f"127.0.0.1:{sock.getsockname()[1]}", "--xds-variant", request.param]
        with Bridge(sandbox, *options, expect_service=False) as bridge:
            yield bridge, Stream(loop, loop.run(ads.next_call()))


@pytest.fixture
def stream(bridge: tuple[Bridge, Stream], servers: Servers) -> Stream:
    """With the shop served by a."""
    _, stream = bridge
    shop_listener, shop_cluster, shop_assignment = tcp_service("shop", VIP, servers["a"])
    assert stream.push(CDS, shop_cluster, eds_cluster("other")) == ""
    assert stream.push(LDS, shop_listener) == ""
    assert stream.push(EDS, shop_assignment, assignment("other", locality(member(servers["b"])))) == ""
    return stream


def raw(kind: ResourceType, value: bytes) -> AnyMessage:
    return AnyMessage(type_url=kind.type_url, value=value)


def truncated(message: Message) -> AnyMessage:
    return raw(LDS, message.SerializeToString()[:-1])


WITHOUT_ADDRESS = parse("LDS", {"name": "bad", "filter_chains": [{"filters": [tcp_to("shop")]}]})
GARBAGE_FILTER = parse("LDS", {"name": "bad"})
GARBAGE_FILTER.MergeFrom(captured("bad", OTHER, tcp_to("shop")))
GARBAGE_FILTER.filter_chains[0].filters[0].typed_config.value = b"\xff"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("bad", "want"),
    [
        pytest.param([raw(LDS, b"\xff\xff")], [NOT_PROTOBUF], id="malformed"),
        pytest.param([truncated(captured("bad", OTHER, tcp_to("shop")))], [NOT_PROTOBUF], id="cut short"),
        pytest.param([raw(CDS, b"")], ["Cluster"], id="another type's URL"),
        pytest.param([raw(LDS, b"")], [" at name: "], id="nameless"),
        pytest.param(
            [captured("bad", OTHER, tcp_to("shop")), captured("bad", OTHER, tcp_to("other"))],
            ["'bad'", "more than once"],
            id="duplicate names",
        ),
        pytest.param([WITHOUT_ADDRESS], ["'bad'", "address"], id="without address"),
        pytest.param([GARBAGE_FILTER], ["'bad' at filter_chains[0].filters[0].typed_config"], id="malformed filter"),
        pytest.param(
            [captured("bad", OTHER, tcp_to(shop=2**32 - 1, other=1))],
            ["'bad' at filter_chains[0].filters[0].typed_config.weighted_clusters"],
            id="weights that overflow",
        ),
        pytest.param(
            [captured("bad", ("127.96.0.300", 80), tcp_to("shop"))], ["'bad' at address"], id="address that is none"
        ),
        pytest.param(
            [captured(LONG, OTHER)], ["Listener 'nnnn", "65536 characters"], id="64 KiB name of a bad listener"
        ),
    ],
)
def test_bad_listener(
    bridge: tuple[Bridge, Stream], stream: Stream, client: Client, bad: list[Bad], want: list[str]
) -> None:
    running, _ = bridge
    good = captured("good", ("127.96.0.3", 80), tcp_to("other"))
    error = stream.push(LDS, captured("shop", VIP, tcp_to("shop")), *bad, good)
    assert all(part in error for part in want), error
    assert len(error) < 5000
    running.wait_until_serves(("127.96.0.3", 80))
    assert client.answers(("127.96.0.3", 80)) == ["b"], "the good one beside it"
    assert client.answers(VIP) == ["a"], "the last good one"
    assert any("LDS" in problem and "rejected" in problem for problem in running.status()["problems"])
    assert stream.push(LDS, captured("shop", VIP, tcp_to("shop"))) == ""


def test_last_good_version_stays(
    bridge: tuple[Bridge, Stream], stream: Stream, client: Client, servers: Servers
) -> None:
    """Of each type, when the new version of the very resource is bad."""
    running, _ = bridge
    no_address = parse("EDS", {"cluster_name": "shop", "endpoints": [{"lb_endpoints": [{"endpoint": {}}]}]})
    heavy = locality(member(servers["b"]), load_balancing_weight=2**32 - 1)
    overflowing = assignment("shop", heavy, locality(member(servers["c"]), zone="z", load_balancing_weight=1))
    for kind, bad, want in (
        (LDS, parse("LDS", {"name": "shop"}), "Listener 'shop' at address"),
        (CDS, parse("CDS", {"name": "shop", "type": "EDS"}), "Cluster 'shop' at eds_cluster_config"),
        (EDS, no_address, "ClusterLoadAssignment 'shop' at endpoints[0].lb_endpoints[0].endpoint"),
        (EDS, overflowing, "ClusterLoadAssignment 'shop' at endpoints"),
    ):
        error = stream.push(kind, bad)
        assert want in error
        assert client.answers(VIP) == ["a"]
        (status,) = (item for item in running.status()["xds"]["types"] if item["type_url"] == kind.type_url)
        assert "shop" in {row["name"] for row in status["rejected"]}
        assert want in status["last_nack"]
    assert "stands" in running.kmeshctl("status").stdout


def test_long_names_are_served(
    bridge: tuple[Bridge, Stream], stream: Stream, client: Client, servers: Servers
) -> None:
    """64 KiB are valid in xDS; nothing on the way to the kernel depends on a name's length."""
    running, _ = bridge
    assert stream.push(CDS, eds_cluster("shop"), eds_cluster(LONG)) == ""
    assert stream.push(LDS, captured("shop", VIP, tcp_to("shop")), captured(LONG, OTHER, tcp_to(LONG))) == ""
    assert stream.push(EDS, assignment(LONG, locality(member(servers["b"])))) == ""
    running.wait_until_serves(OTHER)
    assert client.answers(OTHER) == ["b"]
    shown = running.kmeshctl("status")
    assert shown.returncode in (0, 1)
    assert max(map(len, shown.stdout.splitlines())) <= 200


def test_the_bridge_was_never_restarted(bridge: tuple[Bridge, Stream]) -> None:
    running, _ = bridge
    assert running.process.poll() is None
    assert running.events("xds stream lost") == []
    assert "Traceback" not in running.log.read_text()
