"""The bridge's own connections: TLS and its rotation, tokens, DNS, and that it is never in its own mesh."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import dns.rcode as dns_rcode
import pytest
from google.protobuf.message import Message

from kmesh.xds.resources import cluster, listener
from kmesh.xds.server import Resource
from tests.support.ads_server import AdsServer, Call, bind_loopback, serve_ads
from tests.support.backends import free_port
from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane
from tests.support.dns import DnsServer, Reply, serve_dns
from tests.support.envoy import wait_until
from tests.support.load import Load
from tests.support.loop_thread import LoopThread
from tests.support.name_server import Address, name_servers
from tests.support.pki import make_pair
from tests.support.resources import socket_address
from tests.support.sandbox import Sandbox
from tests.support.services import captured, parse, static_cluster, tcp_service, tcp_to, udp_service

VIP = ("127.96.0.1", 80)
OTHER = ("127.96.0.2", 80)

Servers = dict[str, Address]


@pytest.fixture
def control_plane(loop: LoopThread) -> Iterator[ControlPlane]:
    """For each test its own, since they stop it."""
    with ControlPlane(loop) as control_plane:
        yield control_plane


# TLS and tokens


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """Of the server, of two clients, and token, cert.pem and key.pem as the bridge is told to find them."""
    for name in ("istiod.test", "node-1.test", "node-2.test"):
        make_pair(tmp_path, name)
    rotate(tmp_path, "node-1.test", "first")
    return tmp_path


def rotate(folder: Path, name: str, token: str) -> None:
    (folder / "token").write_text(f"{token}\n")
    for suffix, target in ((".pem", "cert.pem"), ("-key.pem", "key.pem")):
        (folder / "new").write_bytes((folder / f"{name}{suffix}").read_bytes())
        (folder / "new").replace(folder / target)


def server_context(folder: Path) -> ssl.SSLContext:
    """Of a server that demands a certificate of its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "node-1.test.pem"))
    context.load_verify_locations(cafile=str(folder / "node-2.test.pem"))
    context.load_cert_chain(folder / "istiod.test.pem", folder / "istiod.test-key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture
def tls_server(loop: LoopThread, credentials: Path) -> Iterator[tuple[AdsServer, str]]:
    """And the options of a bridge that uses it."""
    with bind_loopback() as sock, loop.entered(serve_ads(sock, server_context(credentials))) as ads:
        yield ads, f"127.0.0.1:{sock.getsockname()[1]}"


def tls_options(folder: Path, address: str) -> list[str | Path]:
    files = ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem", "--token-file", folder / "token"]
    named = ["--tls-ca", folder / "istiod.test.pem", "--tls-server-name", "istiod.test"]
    return ["--xds-server", address, *named, *files]


def push_shop(loop: LoopThread, call: Call, endpoint: Address) -> None:
    for kind, resource in (
        (cluster.TYPE, static_cluster("shop", endpoint)),
        (listener.TYPE, captured("shop", VIP, tcp_to("shop"))),
    ):
        packed = Resource.pack(resource)
        loop.run(call.push_bodies(kind, [(packed.name, packed.packed)]))


def test_certificates_and_tokens_are_read_for_every_connection(
    sandbox: Sandbox,
    loop: LoopThread,
    tls_server: tuple[AdsServer, str],
    credentials: Path,
    client: Client,
    servers: Servers,
) -> None:
    ads, address = tls_server
    with Bridge(sandbox, *tls_options(credentials, address), expect_service=False) as bridge:
        call = loop.run(ads.next_call())
        assert (call.client_name, call.metadata["authorization"]) == ("node-1.test", "Bearer first")
        push_shop(loop, call, servers["a"])
        wait_until(lambda: client.answers(VIP) == ["a"], 5, "the first connection's word")

        rotate(credentials, "node-2.test", "second")
        loop.call(call.end)
        call = loop.run(ads.next_call())
        assert (call.client_name, call.metadata["authorization"]) == ("node-2.test", "Bearer second")
        push_shop(loop, call, servers["b"])
        wait_until(lambda: client.answers(VIP) == ["b"], 5, "the second connection's word")

        (credentials / "key.pem").write_bytes((credentials / "node-1.test-key.pem").read_bytes())
        loop.call(call.end)
        mismatch = "is not the key of --tls-cert"
        wait_until(lambda: mismatch in bridge.status()["xds"]["last_error"], 10, "the mismatch to be told")
        rotate(credentials, "node-1.test", "third")
        assert loop.run(ads.next_call()).metadata["authorization"] == "Bearer third"
        assert client.answers(VIP) == ["b"]


def test_a_server_that_is_not_the_one_named_is_not_believed(
    sandbox: Sandbox, tls_server: tuple[AdsServer, str], credentials: Path
) -> None:
    _, address = tls_server
    options = [*tls_options(credentials, address), "--tls-server-name", "other.test"]
    with Bridge(sandbox, *options, expect_service=False) as bridge:
        wait_until(lambda: "other.test" in bridge.status()["xds"]["last_error"], 10, "the refusal")


# Its own sockets


def test_a_bridge_in_its_own_mesh_reaches_the_real_control_plane(
    sandbox: Sandbox, control_plane: ControlPlane, client: Client, servers: Servers
) -> None:
    """Its cgroup is enrolled and a listener has the control plane's very address: others are led elsewhere."""
    host, _, port = control_plane.address.partition(":")
    trap = tcp_service("trap", (host, int(port)), servers["b"])
    marker = control_plane.publish(*trap, *tcp_service("shop", VIP, servers["a"]))
    with Bridge(sandbox, "--xds-server", control_plane.address, enrolled=True) as bridge:
        bridge.wait_until_serves(marker)
        assert client.answers((host, int(port))) == ["b"]
        before = bridge.outcome("own")
        control_plane.stop()
        bridge.wait_for(lambda status: status["xds"]["state"] == "backing_off", "the stream to be lost")
        control_plane.start()
        bridge.wait_until_serves(control_plane.publish(*trap, *tcp_service("shop", VIP, servers["c"])))
        assert client.answers(VIP) == ["c"]
        assert bridge.outcome("own") > before


# DNS


def own_ip(second: int) -> str:
    """A loopback address for this process, since some ports cannot be chosen."""
    return f"127.{second}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"


@pytest.fixture
def dns(loop: LoopThread) -> Iterator[DnsServer]:
    with loop.entered(serve_dns(own_ip(53), 53)) as server:
        yield server


@pytest.fixture
def with_resolv_conf(tmp_path: Path, dns: DnsServer) -> list[str]:
    """Runs a command on a machine whose resolv.conf names `dns`: in a mount namespace of its own."""
    path = dns.write_resolv_conf(tmp_path / "resolv.conf", "options timeout:1 attempts:1")
    return ["unshare", "--mount", "sh", "-c", f'mount --bind {path} /etc/resolv.conf && exec "$@"', "sh"]


@pytest.fixture
def twins(sandbox: Sandbox) -> Iterator[dict[str, Address]]:
    """Two name servers whose port is the same."""
    port = free_port(own_ip(54))
    with name_servers(sandbox, f"x={own_ip(54)}:{port}", f"y={own_ip(55)}:{port}") as addresses:
        yield addresses


def dns_service(name: str, vip: Address, kind: str, host: str, port: int) -> list[Message]:
    endpoint = {"endpoint": {"address": socket_address(host, port)}}
    dns_cluster = {
        "name": name,
        "type": kind,
        "dns_lookup_family": "V4_ONLY",
        "respect_dns_ttl": True,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return [parse("CDS", dns_cluster), captured(name, vip, tcp_to(name))]


def dns_services(dns: DnsServer, twins: dict[str, Address], servers: Servers) -> list[Message]:
    """One of each kind, and a listener that leads the resolver's own address elsewhere."""
    (x, port), (y, _) = twins["x"], twins["y"]
    dns.zone["all.test.", "A"] = dns.zone["first.test.", "A"] = Reply(records=(x, y), ttl=1)
    return [
        *dns_service("all", VIP, "STRICT_DNS", "all.test", port),
        *dns_service("first", OTHER, "LOGICAL_DNS", "first.test", port),
        *udp_service("trap", (dns.address, 53), servers["a"]),
    ]


def test_dns_clusters_follow_their_records(
    sandbox: Sandbox,
    control_plane: ControlPlane,
    dns: DnsServer,
    with_resolv_conf: list[str],
    twins: dict[str, Address],
    client: Client,
    servers: Servers,
) -> None:
    """By a bridge in its own mesh. Answers that fail take nothing away."""
    marker = control_plane.publish(*dns_services(dns, twins, servers))
    options = ["--xds-server", control_plane.address]
    with Bridge(sandbox, *options, prefix=with_resolv_conf, enrolled=True) as bridge:
        bridge.wait_until_serves(marker)
        assert client.tally(VIP, 10) == {"x": 5, "y": 5}
        assert client.tally(OTHER, 10) == {"x": 10}
        dns.zone["all.test.", "A"] = dns.zone["first.test.", "A"] = Reply(records=(twins["y"][0],), ttl=1)
        wait_until(lambda: client.answers(VIP, 2) + client.answers(OTHER) == ["y"] * 3, 5, "the new records")
        dns.zone.update(dict.fromkeys(dns.zone, Reply(rcode=dns_rcode.SERVFAIL)))
        wait_until(lambda: len(bridge.events("dns_lookup_failed")) == 2, 10, "failed lookups")
        assert client.answers(VIP, 2) + client.answers(OTHER) == ["y"] * 3


def test_dns_clusters_outlive_the_bridge_and_their_server(
    sandbox: Sandbox,
    control_plane: ControlPlane,
    dns: DnsServer,
    with_resolv_conf: list[str],
    twins: dict[str, Address],
    client: Client,
    servers: Servers,
) -> None:
    """A bridge that restarts without control plane or DNS has the addresses it last knew, from the first moment."""
    marker = control_plane.publish(*dns_services(dns, twins, servers))
    with Bridge(sandbox, "--xds-server", control_plane.address, prefix=with_resolv_conf) as bridge:
        bridge.wait_until_serves(marker)
        with Load(sandbox, VIP, processes=1) as load:
            bridge.stop()  # which saves what is known
            control_plane.stop()
            dns.zone.update(dict.fromkeys(dns.zone, Reply(is_silent=True)))
            bridge.start()
            assert set(client.tally(VIP, 20)) == {"x", "y"}
            assert client.tally(OTHER, 10) == {"x": 10}
            control_plane.start()
            bridge.wait_for(lambda status: not status["serves_last_good"], "the control plane to take over", 20)
            assert set(client.tally(VIP, 20)) == {"x", "y"}
            got = load.stop()
        assert set(got) == {"x", "y"}


def test_a_silent_dns_server_delays_no_other_update(
    sandbox: Sandbox, control_plane: ControlPlane, dns: DnsServer, with_resolv_conf: list[str], client: Client,
    servers: Servers,
) -> None:  # fmt: skip
    dns.zone["silent.test.", "A"] = Reply(is_silent=True)
    marker = control_plane.publish(*tcp_service("shop", VIP, servers["a"]))
    with Bridge(sandbox, "--xds-server", control_plane.address, prefix=with_resolv_conf) as bridge:
        bridge.wait_until_serves(marker)
        silent = dns_service("silent", OTHER, "STRICT_DNS", "silent.test", 80)
        started = time.monotonic()
        bridge.wait_until_serves(control_plane.publish(*silent, *tcp_service("shop", VIP, servers["b"])))
        assert time.monotonic() - started < 0.9, "the lookup takes 1 s to fail"
        assert client.answers(VIP) == ["b"]
        waiting = {row["resource"]: row["missing"] for row in bridge.status()["snapshot"]["waiting"]}
        assert waiting == {"cluster silent": ["resolution silent"], "listener silent": ["cluster silent"]}
