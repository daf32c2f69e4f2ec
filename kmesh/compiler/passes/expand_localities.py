"""Load over the localities of a priority.

    hosts of web, priority 0, healthy: a/1 weight 3 with 2 of 2 healthy, b/1 weight 1 with 1 of 2
 -> weighted
      30: endpoints of web, 0/healthy/a/1, 2
      7: endpoints of web, 0/healthy/b/1, 1

Only a cluster with locality_weighted_lb_config does this; else, in panic, and where no locality has a weight, all
endpoints of the priority stay together. A locality's weight counts as far as its endpoints are available: times
min(1, availability * overprovisioning factor). A locality without a weight takes no load.

Source: envoy effectiveLocalityWeight; api/v3 LocalityLbEndpoints.load_balancing_weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import gcd, lcm
from urllib.parse import quote

from kmesh.compiler.ir import Availability, Choice, ClusterUnit, Endpoints, Hosts, Program, Refuse, Share, weigh
from kmesh.compiler.report import Report
from kmesh.compiler.rewrite import rewrite_clusters
from kmesh.model.endpoint import Endpoint, Health, Locality, LocalityEndpoints
from kmesh.records.constants import Reason

__all__ = ["expand_localities"]

_HEALTH = {Availability.HEALTHY: Health.HEALTHY, Availability.DEGRADED: Health.DEGRADED}


def expand_localities(program: Program) -> Program:
    return rewrite_clusters(program, _expand)


def _expand(_unit: ClusterUnit, choice: Choice, _found: list[Report]) -> Choice:
    if not isinstance(choice, Hosts):
        return choice
    group = f"{choice.priority}/{choice.availability.value}"
    available = [_find_available(locality, choice.availability) for locality in choice.localities]
    if not any(available):
        return Refuse(Reason.NO_ENDPOINT)
    weights = _weigh_localities(choice, available)
    if not any(weights):
        together = available[0] if len(available) == 1 else tuple(e for endpoints in available for e in endpoints)
        return Endpoints(cluster=choice.cluster, group=group, endpoints=together)
    return weigh(
        tuple(
            Share(
                weight,
                Endpoints(cluster=choice.cluster, group=f"{group}/{_name(locality.locality)}", endpoints=endpoints),
            )
            for weight, locality, endpoints in zip(weights, choice.localities, available, strict=True)
        )
    )


def _name(locality: Locality) -> str:
    """Like its str(), but different for different localities, whatever characters they use."""
    return "/".join(quote(part, safe="") for part in (locality.region, locality.zone, locality.sub_zone))


def _find_available(locality: LocalityEndpoints, availability: Availability) -> tuple[Endpoint, ...]:
    if availability is Availability.ALL:
        return locality.endpoints
    health = _HEALTH[availability]
    if all(endpoint.health is health for endpoint in locality.endpoints):
        return locality.endpoints
    return tuple(endpoint for endpoint in locality.endpoints if endpoint.health is health)


def _weigh_localities(hosts: Hosts, available: list[tuple[Endpoint, ...]]) -> list[int]:
    """Integers in the exact proportion of the effective weights; all 0 where localities are not weighted."""
    if not hosts.cluster.is_locality_weighted or hosts.availability is Availability.ALL:
        return [0] * len(available)
    return _to_integers(
        [
            (locality.weight or 0)
            * min(
                Fraction(1),
                Fraction(hosts.overprovisioning_factor * len(endpoints), 100 * _count_undrained(locality)),
            )
            for locality, endpoints in zip(hosts.localities, available, strict=True)
        ]
    )


def _count_undrained(locality: LocalityEndpoints) -> int:
    """At least 1: a locality with none has no available endpoint to divide either."""
    return sum(endpoint.health is not Health.DRAINING for endpoint in locality.endpoints) or 1


def _to_integers(weights: Iterable[Fraction]) -> list[int]:
    weights = list(weights)
    scale = lcm(*(weight.denominator for weight in weights))
    scaled = [int(weight * scale) for weight in weights]
    divisor = gcd(*scaled) or 1
    return [weight // divisor for weight in scaled]
