"""The compiled tables decide what Envoy's rules, evaluated naively from the snapshot, say: no more and no less."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import HealthCheck, given, settings

from kmesh.compiler import Compiler
from kmesh.model.address import Protocol
from kmesh.model.snapshot import Snapshot
from tests.support.distribution import Distribution, measure
from tests.support.envoy_rules import evaluate
from tests.support.snapshot_strategies import DESTINATIONS, cluster_snapshots, listener_snapshots

BOUND = Fraction(1, 2**22)
"""Two alias nodes on a path, each within 2**-25 (kmesh.compiler.alias), over at most 16 ways to one result."""


def differences(got: Distribution, want: Distribution) -> list[str]:
    return [
        f"{result}: {float(got.get(result, 0))} instead of {float(want.get(result, 0))}"
        for result in got.keys() | want.keys()
        if abs(got.get(result, 0) - want.get(result, 0)) > BOUND
        or (got.get(result, 0) == 0) != (want.get(result, 0) == 0)
    ]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshot=cluster_snapshots())
def test_balancing_is_envoys(snapshot: Snapshot) -> None:
    got = measure(Compiler().compile(snapshot).image, DESTINATIONS[0])
    assert differences(got, evaluate(snapshot, DESTINATIONS[0])) == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshot=listener_snapshots())
def test_listener_and_chain_are_envoys(snapshot: Snapshot) -> None:
    image = Compiler().compile(snapshot).image
    for protocol in Protocol:
        for destination in DESTINATIONS:
            got = measure(image, destination, protocol)
            assert differences(got, evaluate(snapshot, destination, protocol)) == [], f"{destination} got {got}"
