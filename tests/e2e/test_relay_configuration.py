"""The relay's configuration is on disk before the kernel leads requests to it, or the kernel goes on as before."""

from __future__ import annotations

from google.protobuf.message import Message

from kmesh.relay.configuration import CONFIGURATION_FILE, Configuration, read_configuration
from tests.support.bridge import Bridge
from tests.support.control_plane import ControlPlane
from tests.support.services import captured, http_to, static_cluster

VIP = ("127.96.0.1", 80)
REST = {"match": {"prefix": "/"}, "route": {"cluster": "b", "timeout": "0s"}}
ROUTES = ({"match": {"prefix": "/a"}, "route": {"cluster": "a", "timeout": "0s"}}, REST)
OTHERS = ({"match": {"prefix": "/c"}, "route": {"cluster": "a", "timeout": "0s"}}, REST)


def web(*routes: dict[str, object]) -> list[Message]:
    manager = http_to(
        route_config={"name": "web", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": list(routes)}]}
    )
    clusters = [static_cluster(name, ("127.0.0.9", 80)) for name in ("a", "b")]
    return [captured("web", VIP, manager), *clusters]


def written(bridge: Bridge) -> Configuration:
    return read_configuration(bridge.state_dir / CONFIGURATION_FILE)


def test_it_is_written_when_routes_are_served(bridge: Bridge, control_plane: ControlPlane) -> None:
    bridge.wait_until_serves(control_plane.publish(*web(*ROUTES)))
    (routing,) = written(bridge).routings.values()
    assert [host.name for host in routing.config.virtual_hosts] == ["v"]
    assert written(bridge).clusters.keys() == {"a", "b"}


def test_where_it_cannot_be_written_the_kernel_keeps_what_it_has(bridge: Bridge, control_plane: ControlPlane) -> None:
    bridge.wait_until_serves(control_plane.publish(*web(*ROUTES)))
    before, records = written(bridge), bridge.kmeshctl("dump", "maps").stdout
    in_the_way = bridge.state_dir / f"{CONFIGURATION_FILE}.tmp"
    in_the_way.mkdir()
    try:
        control_plane.publish(*web(*OTHERS))
        bridge.wait_for(lambda status: status["apply"]["error"] != "", "the image to be refused")
        assert "--state-dir" in bridge.status()["apply"]["error"]
        assert written(bridge) == before
        assert bridge.kmeshctl("dump", "maps").stdout == records
    finally:
        in_the_way.rmdir()
    bridge.wait_until_serves(control_plane.publish(*web(*OTHERS)))
    assert written(bridge) != before
    assert bridge.status()["apply"]["error"] == ""


def test_it_stays_where_only_endpoints_change(bridge: Bridge, control_plane: ControlPlane) -> None:
    bridge.wait_until_serves(control_plane.publish(*web(*ROUTES)))
    before = (bridge.state_dir / CONFIGURATION_FILE).stat().st_ino
    listener, *clusters = web(*ROUTES)
    moved = [static_cluster(cluster.name, ("127.0.0.8", 80)) for cluster in clusters]  # type: ignore[attr-defined]
    bridge.wait_until_serves(control_plane.publish(listener, *moved))
    assert (bridge.state_dir / CONFIGURATION_FILE).stat().st_ino == before
