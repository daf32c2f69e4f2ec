"""The real Envoy is the oracle: one control plane configures it and the bridge, and connections must end alike.

Envoy listens on the service addresses, so whoever is not enrolled goes through it; an enrolled process is balanced in
the kernel before it gets there. Configurations are drawn at random from fixed seeds.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from tests.support.backends import free_port
from tests.support.bridge import Bridge
from tests.support.client import Client
from tests.support.control_plane import ControlPlane
from tests.support.envoy import ApiType, Envoy, ads_bootstrap, run_envoy, wait_until
from tests.support.name_server import Address
from tests.support.resources import filter_chain
from tests.support.sandbox import Sandbox
from tests.support.services import assignment, captured, eds_cluster, locality, member, static_cluster, tcp_to

SERVICES = 10
CONNECTIONS = 500
REFUSED = "refused"
_REFUSALS = {
    "ECONNREFUSED": REFUSED,  # in the kernel
    "EOF": REFUSED,  # Envoy has accepted by the time it knows
    "ECONNRESET": REFUSED,
}
_HEALTH = ("HEALTHY", "HEALTHY", "HEALTHY", "UNHEALTHY", "DRAINING", "DEGRADED")

Servers = dict[str, Address]


@pytest.fixture(scope="module")
def envoy(control_plane: ControlPlane) -> Iterator[Envoy]:
    host, _, port = control_plane.address.partition(":")
    with run_envoy(ads_bootstrap(host, int(port), ApiType.DELTA)) as envoy:
        yield envoy


@pytest.fixture(scope="module")
def outsider(sandbox: Sandbox) -> Iterator[Client]:
    """Not in the mesh."""
    with Client(sandbox, enrolled=False) as client:
        yield client


@dataclass(frozen=True)
class Draw:
    """Random services. Shares stay large enough for every outcome to be seen in CONNECTIONS tries."""

    random: random.Random
    servers: Servers
    names: tuple[str, ...] = tuple("abcdefgh")

    def service(self, name: str, vip: Address) -> list[Message]:
        clusters = {f"{name}-{number}": self.random.randint(1, 3) for number in range(self.random.randint(1, 3))}
        proxy = tcp_to(**clusters) if len(clusters) > 1 else tcp_to(next(iter(clusters)))
        resources = [message for cluster in clusters for message in self.cluster(cluster)]
        return [*resources, captured(name, vip, bind_to_port=True, **self.chains(vip, proxy, next(iter(clusters))))]

    def chains(self, vip: Address, proxy: dict[str, Any], other: str) -> dict[str, Any]:
        """One for all, or by destination: the drawn proxy behind a match that takes, and one that does not."""
        match self.random.randrange(4):
            case 0:
                here = {"prefix_ranges": [{"address_prefix": vip[0], "prefix_len": 32}]}
                wide = {"prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}
                return {
                    "filter_chains": [
                        filter_chain(tcp_to(other), filter_chain_match=wide, name="wide"),
                        filter_chain(proxy, filter_chain_match=here, name="here"),
                    ]
                }
            case 1:
                elsewhere = {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}
                missed = filter_chain(proxy, filter_chain_match=elsewhere)
                default = {"default_filter_chain": filter_chain(proxy)} if self.random.random() < 0.5 else {}
                return {"filter_chains": [missed], **default}
            case _:
                return {"filter_chains": [filter_chain(proxy)]}

    def cluster(self, name: str) -> list[Message]:
        options: dict[str, Any] = {"lb_policy": self.random.choice(("ROUND_ROBIN", "RANDOM"))}
        match self.random.randrange(8):
            case 0:
                return []  # named by the listener and nowhere else
            case 1:
                return [static_cluster(name)]
            case 2:
                chosen = self.random.sample(self.names, 3)
                return [static_cluster(name, *(self.servers[server] for server in chosen), **options)]
            case _:
                weighted = {"locality_weighted_lb_config": {}} if self.random.random() < 0.4 else {}
                panic = {"healthy_panic_threshold": {"value": self.random.choice((0, 0, 50, 100))}}
                return [eds_cluster(name, common_lb_config=weighted | panic, **options), self.assignment(name)]

    def assignment(self, name: str) -> Message:
        chosen = iter(self.random.sample(self.names, len(self.names)))
        zones = [
            locality(
                *(self.member(next(chosen)) for _ in range(self.random.randint(1, 2))),
                zone=f"zone-{number}",
                priority=priority,
                load_balancing_weight=self.random.randint(1, 3),
            )
            for number, priority in enumerate(self.random.choice(([0], [0, 0], [0, 1], [0, 0, 1], [0, 1, 2])))
        ]
        policy = {
            "overprovisioning_factor": self.random.choice((100, 140, 200)),
            "weighted_priority_health": self.random.random() < 0.3,
        }
        return assignment(name, *zones, policy=policy)

    def member(self, server: str) -> dict[str, Any]:
        weight, health = self.random.randint(1, 3), self.random.choice(_HEALTH)
        return member(self.servers[server], load_balancing_weight=weight, health_status=health)


@pytest.mark.parametrize("seed", range(6))
def test_connections_end_as_with_envoy(
    bridge: Bridge,
    control_plane: ControlPlane,
    envoy: Envoy,
    client: Client,
    outsider: Client,
    servers: Servers,
    seed: int,
) -> None:
    draw = Draw(random.Random(seed), servers)
    vips = {f"s{seed}-{number}": (ip, free_port(ip)) for number, ip in enumerate(["127.18.0.2"] * SERVICES)}
    resources = [message for name, vip in vips.items() for message in draw.service(name, vip)]
    bridge.wait_until_serves(control_plane.publish(*resources))
    wait_until(lambda: set(vips) <= active_listeners(envoy), 10, "Envoy's listeners")
    assert not any(envoy.stats("update_rejected$").values())
    for name, vip in vips.items():
        want, got = outcomes(outsider, vip), outcomes(client, vip)
        configured = [
            text_format.MessageToString(message, as_one_line=True) for message in resources if name in str(message)
        ]
        assert set(got) == set(want), (got, want, configured)
        assert is_alike(got, want), (got, want, configured)


def outcomes(client: Client, vip: Address) -> Counter[str]:
    counts: Counter[str] = Counter()
    for outcome, count in client.tally(vip, CONNECTIONS).items():
        counts[_REFUSALS.get(outcome, outcome)] += count
    return counts


def active_listeners(envoy: Envoy) -> set[str]:
    return {
        config["active_state"]["listener"]["name"]
        for config in envoy.config_dump("dynamic_listeners")
        if "active_state" in config
    }


def is_alike(one: Counter[str], other: Counter[str]) -> bool:
    """The chi-square test of two samples of equal size, at odds of about one in ten million of a false alarm."""
    keys = one.keys() | other.keys()
    statistic = sum((one[key] - other[key]) ** 2 / (one[key] + other[key]) for key in keys)
    return statistic <= _chi_square_bound(max(len(keys) - 1, 1))


def _chi_square_bound(degrees: int, deviations: float = 5.2) -> float:
    """Wilson and Hilferty's approximation of the quantile that many deviations out."""
    spread = 2 / (9 * degrees)
    return degrees * float(1 - spread + deviations * spread**0.5) ** 3
