"""The balancing policy of a cluster becomes a way to choose among its endpoints.

    endpoints of web (ROUND_ROBIN), 3    -> rotate 0/healthy, 3
    endpoints of web (LEAST_REQUEST), 3  -> spread by weight, 3
    endpoints of web (RANDOM), 3         -> spread evenly, 3

RANDOM ignores endpoint weights, as Envoy's does (random_lb.cc). RING_HASH and MAGLEV come here only without anything
to hash, where Envoy hashes a random number. A round of ROUND_ROBIN is written out ticket by ticket, so unequal
weights whose round is longer than KM_MAX_CURSOR_TICKETS are spread at random instead, and reported.
"""

from __future__ import annotations

from math import gcd

from kmesh.compiler.ir import Choice, ClusterUnit, Endpoints, Program, Rotate, Spread
from kmesh.compiler.report import Report
from kmesh.compiler.rewrite import rewrite_clusters
from kmesh.model.cluster import LbPolicy
from kmesh.model.limitation import Effect
from kmesh.records.constants import LIMITS

__all__ = ["pick_endpoints"]


def pick_endpoints(program: Program) -> Program:
    return rewrite_clusters(program, _pick)


def _pick(unit: ClusterUnit, choice: Choice, found: list[Report]) -> Choice:
    if not isinstance(choice, Endpoints):
        return choice
    policy = choice.cluster.lb_policy
    weights = {endpoint.weight for endpoint in choice.endpoints}
    spread = Spread(endpoints=choice.endpoints, is_weighted=len(weights) > 1 and policy is not LbPolicy.RANDOM)
    if len(choice.endpoints) == 1:
        return spread
    match policy:
        case LbPolicy.ROUND_ROBIN if len(weights) == 1 or _count_tickets(choice) <= LIMITS["CURSOR_TICKETS"]:
            return Rotate(group=choice.group, endpoints=choice.endpoints)
        case LbPolicy.ROUND_ROBIN:
            found.append(
                _report(
                    unit,
                    "lb_policy ROUND_ROBIN with these weights",
                    f"one round would take more than {LIMITS['CURSOR_TICKETS']} connections: endpoints are chosen at "
                    "random by weight",
                )
            )
        case LbPolicy.LEAST_REQUEST:
            consequence = "endpoints are chosen at random by weight, whatever their load"
            found.append(_report(unit, "lb_policy LEAST_REQUEST", consequence))
        case _:
            pass
    return spread


def _count_tickets(choice: Endpoints) -> int:
    weights = [endpoint.weight for endpoint in choice.endpoints]
    return sum(weights) // gcd(*weights)


def _report(unit: ClusterUnit, feature: str, consequence: str) -> Report:
    return Report(
        kind="cluster",
        name=unit.name,
        feature=feature,
        path="lb_policy",
        effect=Effect.APPROXIMATED,
        consequence=consequence,
    )
