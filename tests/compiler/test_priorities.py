"""The tables of Envoy's documentation, arch_overview/upstream/load_balancing: priority levels, degraded, panic."""

from __future__ import annotations

import pytest

from kmesh.compiler.ir import Availability, ClusterUnit, Hosts, Members, Program, leaves
from kmesh.compiler.ir import Weighted as WeightedChoice
from kmesh.compiler.passes.expand_priorities import expand_priorities
from kmesh.model.address import V4_MAPPED, SocketAddress
from kmesh.model.cluster import Cluster, Discovery
from kmesh.model.endpoint import ClusterLoadAssignment, Endpoint, Health, Locality, LocalityEndpoints

Load = dict[tuple[int, Availability], int]
HEALTHY, DEGRADED, ALL = Availability.HEALTHY, Availability.DEGRADED, Availability.ALL


def make_priority(priority: int, healthy: int, degraded: int = 0) -> LocalityEndpoints:
    """100 endpoints, of which so many are healthy and degraded."""
    healths = [Health.HEALTHY] * healthy + [Health.DEGRADED] * degraded
    healths += [Health.UNHEALTHY] * (100 - len(healths))
    return LocalityEndpoints(
        locality=Locality(),
        priority=priority,
        endpoints=tuple(
            Endpoint(SocketAddress(V4_MAPPED + bytes((10, 0, priority, i)), 80), 1, health)
            for i, health in enumerate(healths)
        ),
    )


def share_load(priorities: list[tuple[int, int]], panic_threshold: float = 0.0) -> Load:
    groups = tuple(make_priority(number, *share) for number, share in enumerate(priorities))
    return load_of(ClusterLoadAssignment(name="c", localities=groups), panic_threshold)


def load_of(assignment: ClusterLoadAssignment, panic_threshold: float) -> Load:
    members = Members(
        cluster=Cluster(name="c", discovery=Discovery.EDS, panic_threshold_percent=panic_threshold),
        assignment=assignment,
    )
    unit = expand_priorities(Program(clusters=(ClusterUnit(name="c", choice=members),))).clusters[0]
    if isinstance(unit.choice, WeightedChoice):
        found = {(s.choice, s.weight) for s in unit.choice.shares}
    else:
        found = {(choice, 100) for choice in leaves(unit.choice)}
    return {(hosts.priority, hosts.availability): load for hosts, load in found if isinstance(hosts, Hosts)}


@pytest.mark.parametrize(
    ("shares", "want"),
    [
        pytest.param([(100, 0), (100, 0)], {(0, HEALTHY): 100}, id="all"),
        pytest.param([(72, 0), (72, 0)], {(0, HEALTHY): 100}, id="72"),
        pytest.param([(71, 0), (71, 0)], {(0, HEALTHY): 99, (1, HEALTHY): 1}, id="71"),
        pytest.param([(50, 0), (50, 0)], {(0, HEALTHY): 70, (1, HEALTHY): 30}, id="50"),
        pytest.param([(25, 0), (100, 0)], {(0, HEALTHY): 35, (1, HEALTHY): 65}, id="25_100"),
        pytest.param([(25, 0), (25, 0)], {(0, HEALTHY): 50, (1, HEALTHY): 50}, id="25_25"),
        pytest.param([(5, 0), (0, 0), (5, 0)], {(0, HEALTHY): 50, (2, HEALTHY): 50}, id="middle_down"),
        pytest.param([(20, 0), (20, 0), (10, 0)], {(0, HEALTHY): 40, (1, HEALTHY): 40, (2, HEALTHY): 20}, id="three"),
        pytest.param([(50, 50)], {(0, HEALTHY): 70, (0, DEGRADED): 30}, id="degraded_takes_the_rest"),
        pytest.param([(0, 100)], {(0, DEGRADED): 100}, id="only_degraded"),
        pytest.param([(5, 0), (0, 5)], {(0, HEALTHY): 50, (1, DEGRADED): 50}, id="degraded_behind"),
        pytest.param([(0, 0), (0, 0)], {(0, HEALTHY): 100}, id="nothing_usable_and_no_panic"),
    ],
)
def test_load_without_panic(shares: list[tuple[int, int]], want: Load) -> None:
    assert share_load(shares) == want


@pytest.mark.parametrize(
    ("shares", "want"),
    [
        pytest.param([(72, 0), (0, 0)], {(0, HEALTHY): 100}, id="enough_without_the_second"),
        pytest.param([(65, 0), (5, 0)], {(0, HEALTHY): 93, (1, ALL): 7}, id="second_in_panic"),
        pytest.param([(5, 0), (65, 0)], {(0, ALL): 8, (1, HEALTHY): 92}, id="first_in_panic"),
        pytest.param([(5, 0), (5, 0)], {(0, ALL): 50, (1, ALL): 50}, id="total_panic"),
        pytest.param([(0, 0)] * 3, {(0, ALL): 34, (1, ALL): 33, (2, ALL): 33}, id="remainder_to_the_first"),
    ],
)
def test_load_with_panic(shares: list[tuple[int, int]], want: Load) -> None:
    assert share_load(shares, panic_threshold=50.0) == want


def test_nothing_usable_by_weight_and_the_first_priority_in_panic() -> None:
    """Health shares round down to nothing, and only the first priority is short of healthy endpoints."""
    first = (Endpoint(SocketAddress.parse("10.0.0.1", 80), 1, Health.UNHEALTHY),)
    second = (
        Endpoint(SocketAddress.parse("10.0.0.2", 80)),
        Endpoint(SocketAddress.parse("10.0.0.3", 80), 2**32 - 1, Health.UNHEALTHY),
    )
    groups = tuple(
        LocalityEndpoints(locality=Locality(), priority=priority, endpoints=endpoints)
        for priority, endpoints in enumerate((first, second))
    )
    assignment = ClusterLoadAssignment(name="c", localities=groups, weighted_priority_health=True)
    assert load_of(assignment, panic_threshold=50.0) == {(0, ALL): 100}
