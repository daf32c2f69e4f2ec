"""Updates are atomic: connections made while a service's whole endpoint set is exchanged, again and again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from tests.support.bridge import Bridge
from tests.support.control_plane import ControlPlane
from tests.support.load import Load
from tests.support.mesh import generate_mesh
from tests.support.name_server import Address
from tests.support.services import assignment, captured, eds_cluster, locality, member, tcp_service, tcp_to

VIP = ("127.96.0.1", 80)
SETS = ("abc", "def")
PROCESSES = 2
MANY = list(generate_mesh(services=300, endpoints=2))

Build = Callable[[int, list[Address]], list[Message]]


def same_cluster(number: int, endpoints: list[Address]) -> list[Message]:
    return tcp_service("shop", VIP, *endpoints)


def same_cluster_drawn_at_random(number: int, endpoints: list[Address]) -> list[Message]:
    return tcp_service("shop", VIP, *endpoints, lb_policy="RANDOM")


def another_cluster(number: int, endpoints: list[Address]) -> list[Message]:
    """The listener turns to a new cluster each time, and the old one goes."""
    name = f"shop-{number}"
    members = map(member, endpoints)
    return [captured("shop", VIP, tcp_to(name)), eds_cluster(name), assignment(name, locality(*members))]


def growing_and_shrinking_maps(number: int, endpoints: list[Address]) -> list[Message]:
    """Beside 300 services that come and go."""
    return same_cluster(number, endpoints) + MANY * (number % 2)


@pytest.mark.parametrize(
    ("build", "exchanges", "connections"),
    [
        (same_cluster, 50, 100_000),
        (same_cluster_drawn_at_random, 20, 40_000),
        (another_cluster, 20, 40_000),
        (growing_and_shrinking_maps, 10, 40_000),
    ],
)
def test_no_connection_is_refused_or_strays_while_endpoints_are_exchanged(
    bridge: Bridge,
    control_plane: ControlPlane,
    servers: dict[str, Address],
    build: Build,
    exchanges: int,
    connections: int,
) -> None:
    other = tcp_service("other", ("127.96.0.2", 80), servers["g"], servers["h"])

    def exchange(number: int) -> None:
        endpoints = [servers[name] for name in SETS[number % 2]]
        bridge.wait_until_serves(control_plane.publish(*other, *build(number, endpoints)))

    exchange(0)
    done = 0
    with Load(bridge.sandbox, VIP, processes=PROCESSES, enough=connections // PROCESSES) as load:
        while done < exchanges or not load.has_enough():
            done += 1
            exchange(done)  # in force when this returns
        got = load.stop()
    assert got.total() >= connections
    assert set(got) == set("".join(SETS)), "none refused, none answered by any other endpoint"
