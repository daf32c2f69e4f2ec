"""Views counted from what the bridge holds: a snapshot, the compiler's reports, the kernel's counters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kmesh.bridge.view import LimitationView, OutcomeView, SnapshotView, WaitingView
from kmesh.compiler.report import Report
from kmesh.model.limitation import Effect
from kmesh.model.snapshot import Snapshot
from kmesh.records.constants import Reason

__all__ = ["view_limitations", "view_outcomes", "view_snapshot"]

_GRAVITY = (Effect.REFUSED, Effect.INACTIVE, Effect.RELAYED, Effect.APPROXIMATED, Effect.UNENFORCED)


def view_snapshot(snapshot: Snapshot) -> SnapshotView:
    localities = (locality for a in snapshot.assignments.values() for locality in a.localities)
    return SnapshotView(
        listeners=len(snapshot.listeners),
        route_configs=len(snapshot.route_configs),
        clusters=len(snapshot.clusters),
        endpoints=sum(len(locality.endpoints) for locality in localities),
        waiting=tuple(
            WaitingView(resource=name, missing=missing) for name, missing in sorted(snapshot.waiting.items())
        ),
    )


def view_outcomes(counts: Mapping[Reason, int]) -> tuple[OutcomeView, ...]:
    """In the order of Reason, those never counted left out."""
    return tuple(
        OutcomeView(reason=reason.name.lower(), is_refusal=reason >= Reason.NO_ENDPOINT, count=counts[reason])
        for reason in sorted(counts)
        if counts[reason]
    )


def view_limitations(reports: Iterable[Report]) -> tuple[LimitationView, ...]:
    """One view for each feature and what becomes of it, the gravest effect first, then by feature."""
    resources: dict[tuple[int, str, str], dict[str, None]] = {}
    for report in reports:
        group = (_GRAVITY.index(report.effect), report.feature, report.consequence)
        resources.setdefault(group, {})[f"{report.kind} {report.name}"] = None
    return tuple(
        LimitationView(feature=feature, effect=_GRAVITY[gravity], consequence=consequence, resources=tuple(names))
        for (gravity, feature, consequence), names in sorted(resources.items())
    )
