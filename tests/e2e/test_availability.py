"""The data path outlives the bridge, and a bridge that comes back disturbs nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from kmesh.api.kmesh.admin import v1 as pb
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.resources import cluster as cds
from kmesh.xds.resources import endpoint as eds
from kmesh.xds.resources import listener as lds
from kmesh.xds.server import Resource
from tests.support.ads_server import Call, bind_loopback, serve_ads
from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane
from tests.support.envoy import wait_until
from tests.support.load import Load
from tests.support.loop_thread import LoopThread
from tests.support.name_server import Address
from tests.support.sandbox import Sandbox
from tests.support.services import tcp_service

VIP = ("127.96.0.1", 80)
OTHER = ("127.96.0.2", 80)
NOWHERE = "127.0.0.1:1"
REFUSED = "ECONNREFUSED"

Servers = dict[str, Address]


@pytest.fixture
def shop(servers: Servers) -> list[Message]:
    return tcp_service("shop", VIP, servers["a"], servers["b"])


@pytest.fixture
def control_plane(loop: LoopThread) -> Iterator[ControlPlane]:
    """For each test its own, since they stop it."""
    with ControlPlane(loop) as control_plane:
        yield control_plane


@pytest.fixture
def bridge(sandbox: Sandbox, control_plane: ControlPlane, shop: list[Message]) -> Iterator[Bridge]:
    """Serves the shop; with a state directory of its own."""
    marker = control_plane.publish(*shop)
    with Bridge(sandbox, "--xds-server", control_plane.address) as bridge:
        bridge.wait_until_serves(marker)
        yield bridge


def writes(bridge: Bridge) -> list[tuple[int, int]]:
    """(upserts, deletes) of each apply of the present process."""
    return [(event["upserts"], event["deletes"]) for event in bridge.events("image_applied")]


def state_file(bridge: Bridge) -> Path:
    return bridge.state_dir / "snapshot.msgpack"


def wait_until_saved(bridge: Bridge) -> None:
    wait_until(state_file(bridge).exists, 5, "the state to be saved")


def forget(bridge: Bridge) -> None:
    state_file(bridge).unlink(missing_ok=True)


def test_kill_9_harms_no_connection(bridge: Bridge, client: Client) -> None:
    """Neither those that are established nor those that come."""
    number = client.open(VIP)
    bridge.kill()
    assert client.echo(number, "still here") == "still here"
    assert client.tally(VIP, 100) == {"a": 50, "b": 50}
    bridge.start()
    assert client.echo(number, "and now") == "and now"


def test_restart_adopts_what_is_right(bridge: Bridge, client: Client) -> None:
    programs, records = bridge.program_ids(), bridge.dump(pb.DumpKind.MAPS)
    bridge.kill()
    bridge.start()
    assert bridge.program_ids() == programs
    assert bridge.events("programs_ready")[0]["adopted"] is True
    assert bridge.events("programs_attached")[0]["links_changed"] == 0
    bridge.wait_for(lambda status: not status["problems"], "the control plane's word")
    assert writes(bridge) and set(writes(bridge)) == {(0, 0)}
    assert bridge.dump(pb.DumpKind.MAPS) == records


def test_restart_writes_what_differs_and_nothing_else(
    bridge: Bridge, control_plane: ControlPlane, client: Client, servers: Servers
) -> None:
    """One endpoint is another now: its backend record comes, the cluster's cell turns to it, the old one goes. The
    publication's marker moves, too: one frontend comes and one goes."""
    other = tcp_service("other", OTHER, servers["c"])
    bridge.wait_until_serves(control_plane.publish(*tcp_service("shop", VIP, servers["a"]), *other))
    time.sleep(0.5)  # what the switch left behind is deleted after it
    bridge.kill()
    forget(bridge)
    marker = control_plane.publish(*tcp_service("shop", VIP, servers["b"]), *other)
    bridge.start()
    assert bridge.serves(marker)
    assert writes(bridge) == [(2 + 1, 1 + 1)]
    assert client.answers(VIP) == ["b"]
    assert client.answers(OTHER) == ["c"]


def test_killed_again_and_again_under_load(bridge: Bridge, control_plane: ControlPlane, servers: Servers) -> None:
    """While the configuration changes, too: killed at any moment of its start and of its work."""
    with Load(bridge.sandbox, VIP, processes=1) as load:
        for turn in range(5):
            names = ("ab", "cd")[turn % 2]
            marker = control_plane.publish(*tcp_service("shop", VIP, *(servers[name] for name in names)))
            bridge.kill()
            bridge.spawn()
            time.sleep(0.1 * turn)  # what is interrupted differs from turn to turn
            bridge.kill()
            bridge.start()
            bridge.wait_until_serves(marker)
        got = load.stop()
    assert set(got) == set("abcd")
    assert got.total() > 1000


def test_stopping_leaves_everything_in_place(bridge: Bridge, client: Client) -> None:
    assert bridge.stop() == 0
    assert client.tally(VIP, 10) == {"a": 5, "b": 5}
    assert bridge.events("bridge_stopped")


# Without a control plane


def test_control_plane_that_goes_and_comes_back(
    bridge: Bridge, control_plane: ControlPlane, client: Client, servers: Servers
) -> None:
    control_plane.stop()
    bridge.wait_for(lambda status: status["xds"]["state"] == "backing_off", "the loss to be noticed")
    assert client.tally(VIP, 10) == {"a": 5, "b": 5}
    status = bridge.status()
    assert status["problems"] == [f"no control plane at {control_plane.address}"]
    assert (status["serves_last_good"], status["snapshot"]["listeners"]) == (False, 2)
    control_plane.start()
    bridge.wait_until_serves(control_plane.publish(*tcp_service("shop", VIP, servers["c"])))
    assert client.answers(VIP) == ["c"]
    assert bridge.status()["problems"] == []


def point_to(bridge: Bridge, server: str) -> None:
    """From its next start on."""
    bridge.options[bridge.options.index("--xds-server") + 1] = server


def test_last_good_is_served_without_control_plane(
    bridge: Bridge, control_plane: ControlPlane, client: Client, servers: Servers
) -> None:
    """Even when nothing is pinned any more; it says so, and hands over when the control plane is back."""
    wait_until_saved(bridge)
    control_plane.stop()
    bridge.kill()
    assert bridge.kmeshctl("uninstall", "--yes").returncode == 0
    assert client.answers(VIP) == [REFUSED]

    bridge.start()
    assert client.tally(VIP, 10) == {"a": 5, "b": 5}
    status = bridge.status()
    assert status["serves_last_good"] is True
    assert f"no control plane at {control_plane.address}" in status["problems"]
    assert "serving the last good snapshot from disk" in bridge.kmeshctl("status").stdout
    assert bridge.events("serving_last_good")

    marker = control_plane.publish(*tcp_service("shop", VIP, servers["c"]))
    control_plane.start()
    bridge.wait_until_serves(marker, timeout_s=20)
    assert client.answers(VIP) == ["c"]
    status = bridge.status()
    assert (status["serves_last_good"], status["problems"]) == (False, [])
    assert bridge.events("control_plane_took_over")


def test_a_bridge_that_knows_nothing_wipes_nothing(bridge: Bridge, client: Client) -> None:
    """No control plane and no saved state, but pinned maps full of services."""
    wait_until_saved(bridge)
    bridge.kill()
    forget(bridge)
    point_to(bridge, NOWHERE)
    bridge.spawn()
    wait_until(lambda: bridge.events("xds stream lost") != [], 10, "its first attempt")
    assert client.tally(VIP, 10) == {"a": 5, "b": 5}
    assert writes(bridge) == []
    assert bridge.status()["snapshot"]["listeners"] == 0


def test_damaged_state_is_put_aside(bridge: Bridge, client: Client) -> None:
    wait_until_saved(bridge)
    bridge.kill()
    path = state_file(bridge)
    path.write_bytes(path.read_bytes()[:-7])
    bridge.start()
    assert bridge.events("saved_state_unusable")
    assert path.with_name("snapshot.msgpack.corrupt").exists()
    assert client.tally(VIP, 10) == {"a": 5, "b": 5}


@pytest.mark.parametrize("has_state", [True, False], ids=["with saved state", "without"])
def test_partial_responses_after_a_restart_take_nothing_away(
    bridge: Bridge, loop: LoopThread, client: Client, servers: Servers, has_state: bool
) -> None:
    """Another control plane answers one type after the other; in between it is not yet believed."""
    wait_until_saved(bridge)
    bridge.kill()
    if not has_state:
        forget(bridge)
    listener, cluster, assignment = tcp_service("shop", VIP, servers["c"])
    with bind_loopback() as sock, loop.entered(serve_ads(sock)) as ads:
        point_to(bridge, f"127.0.0.1:{sock.getsockname()[1]}")
        bridge.spawn()
        call = loop.run(ads.next_call())
        for kind, resource in ((cds.TYPE, cluster), (lds.TYPE, listener)):
            send(loop, call, kind, resource)
            assert set(client.tally(VIP, 20)) == {"a", "b"}
        send(loop, call, eds.TYPE, assignment)
        wait_until(lambda: client.answers(VIP) == ["c"], 5, "the whole configuration")
        bridge.stop()


def send(loop: LoopThread, call: Call, kind: ResourceType, resource: Message) -> None:
    """And wait for its ACK."""
    packed = Resource.pack(resource)
    nonce = loop.run(call.push_bodies(kind, [(packed.name, packed.packed)]))
    while loop.run(call.receive()).response_nonce != nonce:
        pass


# Two bridges


def test_a_second_bridge_of_the_instance_is_turned_away(bridge: Bridge, tmp_path: Path, client: Client) -> None:
    """Whatever its state directory."""
    for state_dir in (bridge.state_dir, tmp_path / "state"):
        command = [sys.executable, "-m", "kmesh.bridge", *bridge.options, "--state-dir", state_dir]
        got = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=20, check=False)
        want = f"instance {bridge.sandbox.instance!r} is already run by process {bridge.process.pid}: "
        assert got.returncode == 2
        assert got.stderr.startswith(f"kmesh.bridge: {want}")
    assert client.tally(VIP, 4) == {"a": 2, "b": 2}
    assert bridge.status()["bridge"]["pid"] == bridge.process.pid
