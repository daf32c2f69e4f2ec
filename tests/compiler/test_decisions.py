"""Images as the kernel would run them: many decisions by the reference interpreter, counted."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmesh.compiler import Compiler, decide
from kmesh.model.address import Protocol, SocketAddress
from kmesh.model.snapshot import Snapshot
from tests.support.distribution import measure
from tests.support.snapshot_strategies import DESTINATIONS, cluster_snapshots
from tests.support.snapshot_text import read_snapshot

SERVICE = SocketAddress.parse("10.96.0.1", 80)
SNAPSHOT = """
listeners:
  l:
    addresses: ["10.96.0.1:80"]
    filter_chains: [{{network: !TcpProxy {{clusters: [{{name: a, weight: 3}}, {{name: b, weight: 1}}]}}}}]
clusters:
  a: {{discovery: STATIC, lb_policy: {policy}}}
  b: {{discovery: STATIC, lb_policy: {policy}}}
assignments:
  a:
    localities:
      - {{locality: {{}}, endpoints: [{{address: "10.0.0.1:80", weight: 5}}, "10.0.0.2:80", "10.0.0.3:80"]}}
  b: {{localities: [{{locality: {{}}, endpoints: ["10.0.1.1:80", "10.0.1.2:80"]}}]}}
"""


def decide_often(snapshot: Snapshot, count: int, seed: int, destination: SocketAddress) -> Counter[object]:
    tables = Compiler().compile(snapshot).image.tables()
    random = Random(seed)
    cursors: dict[int, int] = {}
    decisions = (
        decide(
            tables,
            destination,
            Protocol.TCP,
            is_ipv6_socket=True,
            draw=lambda: random.getrandbits(32),
            cursors=cursors,
        )
        for _ in range(count)
    )
    return Counter(decision.address or decision.reason for decision in decisions)


@pytest.mark.parametrize("policy", ["RANDOM", "LEAST_REQUEST", "ROUND_ROBIN", "MAGLEV"])
def test_counts_fit_the_distribution(policy: str) -> None:
    """Chi-square with 4 degrees of freedom: above 23.5 once in 10,000 seeds, and the seed is fixed."""
    snapshot = read_snapshot(SNAPSHOT.format(policy=policy))
    got = decide_often(snapshot, 20_000, 1, SERVICE)
    shares = measure(Compiler().compile(snapshot).image, SERVICE)
    want = {result: float(share) * 20_000 for result, share in shares.items()}
    assert set(got) == set(want)
    assert sum((got[result] - expected) ** 2 / expected for result, expected in want.items()) < 23.5


def test_a_round_takes_each_endpoint_by_its_weight() -> None:
    text = SNAPSHOT.format(policy="ROUND_ROBIN").replace(", {name: b, weight: 1}", "")
    got = decide_often(read_snapshot(text), 14, 1, SERVICE)
    assert {str(address): count for address, count in got.items()} == {
        "10.0.0.1:80": 10,
        "10.0.0.2:80": 2,
        "10.0.0.3:80": 2,
    }


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshot=cluster_snapshots(), seed=st.integers(0, 2**32))
def test_decisions_are_possible_ones(snapshot: Snapshot, seed: int) -> None:
    possible = measure(Compiler().compile(snapshot).image, DESTINATIONS[0])
    assert sum(possible.values()) == Fraction(1)
    assert set(decide_often(snapshot, 20, seed, DESTINATIONS[0])) <= set(possible)
