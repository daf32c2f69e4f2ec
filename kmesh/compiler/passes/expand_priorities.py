"""Load over priorities, in whole percent as Envoy computes it.

    members of web: priority 0 with 1 of 2 healthy, priority 1 with 2 of 2
 -> weighted
      70: hosts of web, priority 0, healthy
      30: hosts of web, priority 1, healthy

Source: envoy source/extensions/load_balancing_policies/common/load_balancer_impl.cc, LoadBalancerBase
(recalculatePerPriorityState, recalculatePerPriorityPanic, recalculateLoadInTotalPanic, isHostSetInPanic); its integer
divisions truncate, and so do these.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kmesh.compiler.ir import Availability, Choice, ClusterUnit, Hosts, Members, Program, Share, weigh
from kmesh.compiler.report import Report
from kmesh.compiler.rewrite import rewrite_clusters
from kmesh.model.endpoint import ClusterLoadAssignment, Health, LocalityEndpoints

__all__ = ["expand_priorities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priority:
    """What Envoy keeps of one priority; all counts of endpoints."""

    localities: tuple[LocalityEndpoints, ...]
    total: int
    counted: int
    """What shares are of: all but the draining ones."""
    healthy: int
    degraded: int
    healthy_percent: int
    """Healthy share times the overprovisioning factor, at most 100."""
    degraded_percent: int


def expand_priorities(program: Program) -> Program:
    return rewrite_clusters(program, _expand)


def _expand(_unit: ClusterUnit, choice: Choice, _found: list[Report]) -> Choice:
    if not isinstance(choice, Members):
        return choice
    factor = choice.assignment.overprovisioning_factor
    priorities = _count_priorities(choice.assignment)
    threshold = int(100 * (choice.cluster.panic_threshold_percent / 100))  # as convertPercent truncates it
    loads = _share_load(priorities, threshold)
    return weigh(
        tuple(
            Share(
                load,
                Hosts(
                    cluster=choice.cluster,
                    priority=priority,
                    availability=availability,
                    overprovisioning_factor=factor,
                    localities=priorities[priority].localities,
                ),
            )
            for priority, availability, load in loads
        )
    )


def _count_priorities(assignment: ClusterLoadAssignment) -> list[_Priority]:
    """From 0 to the highest named; those between that have no endpoints count as empty."""
    highest = max(group.priority for group in assignment.localities)
    by_priority: list[list[LocalityEndpoints]] = [[] for _ in range(highest + 1)]
    for group in assignment.localities:
        by_priority[group.priority].append(group)
    return [_count(tuple(groups), assignment) for groups in by_priority]


def _count(groups: tuple[LocalityEndpoints, ...], assignment: ClusterLoadAssignment) -> _Priority:
    count = Counter(endpoint.health for group in groups for endpoint in group.endpoints)
    measure = _weigh(groups) if assignment.weighted_priority_health else count
    whole = sum(measure.values()) - measure[Health.DRAINING] or 1
    factor = assignment.overprovisioning_factor
    return _Priority(
        localities=groups,
        total=sum(count.values()),
        counted=sum(count.values()) - count[Health.DRAINING],
        healthy=count[Health.HEALTHY],
        degraded=count[Health.DEGRADED],
        healthy_percent=min(100, factor * measure[Health.HEALTHY] // whole),
        degraded_percent=min(100, factor * measure[Health.DEGRADED] // whole),
    )


def _weigh(groups: tuple[LocalityEndpoints, ...]) -> Counter[Health]:
    weight: Counter[Health] = Counter()
    for group in groups:
        for endpoint in group.endpoints:
            weight[endpoint.health] += endpoint.weight
    return weight


def _share_load(priorities: list[_Priority], threshold: int) -> list[tuple[int, Availability, int]]:
    """(priority, availability, percent), adding up to 100."""
    normalized = min(100, sum(p.healthy_percent + p.degraded_percent for p in priorities))
    if normalized == 0 and threshold == 0:
        return [(0, Availability.HEALTHY, 100)]
    in_panic = [normalized < 100 and _is_in_panic(priority, threshold) for priority in priorities]
    if all(in_panic):
        return _share_load_in_total_panic(priorities)
    if normalized == 0:
        return [(0, Availability.ALL if in_panic[0] else Availability.HEALTHY, 100)]

    healthy = [p.healthy_percent for p in priorities]
    degraded = [p.degraded_percent for p in priorities]
    healthy_load, rest = _distribute(healthy, 100, normalized)
    degraded_load, rest = _distribute(degraded, rest, normalized)
    if any(healthy):
        healthy_load[_first_positive(healthy)] += rest
    else:
        degraded_load[_first_positive(degraded)] += rest
    loads: dict[tuple[int, Availability], int] = {}
    for availability, shares in ((Availability.HEALTHY, healthy_load), (Availability.DEGRADED, degraded_load)):
        for priority, load in enumerate(shares):
            key = priority, Availability.ALL if in_panic[priority] else availability
            loads[key] = loads.get(key, 0) + load
    return [(priority, availability, load) for (priority, availability), load in loads.items()]


def _share_load_in_total_panic(priorities: list[_Priority]) -> list[tuple[int, Availability, int]]:
    """By the number of endpoints, whatever their health."""
    totals = [priority.total for priority in priorities]
    loads = [100 * total // sum(totals) for total in totals]
    loads[_first_positive(totals)] += 100 - sum(loads)
    return [(priority, Availability.ALL, load) for priority, load in enumerate(loads)]


def _distribute(percents: list[int], load: int, normalized: int) -> tuple[list[int], int]:
    """Give each its part of `load` until that runs out, and say what is left."""
    shares = []
    for percent in percents:
        share = min(load, percent * 100 // normalized)
        shares.append(share)
        load -= share
    return shares, load


def _is_in_panic(priority: _Priority, threshold: int) -> bool:
    usable = priority.healthy + priority.degraded
    return 100.0 * usable < threshold * priority.counted if priority.counted else threshold > 0


def _first_positive(numbers: list[int]) -> int:
    return next(index for index, number in enumerate(numbers) if number > 0)
