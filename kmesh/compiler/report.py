"""What a user must know of the configuration in force: each feature asked for and not done, by resource."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kmesh.model.limitation import Effect, Limitation

__all__ = ["Report", "has_refused", "report_bound", "report_limitations"]

_CONSEQUENCES = {
    Effect.REFUSED: "its connections are refused",
    Effect.RELAYED: "its requests are the relay's to route",
    Effect.UNENFORCED: "its connections are routed as configured, without this",
    Effect.APPROXIMATED: "its connections reach endpoints that the configuration allows, chosen by a simpler rule",
    Effect.INACTIVE: "it captures no connection here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    kind: str
    """Of the resource: "listener", "route configuration", "virtual host", "cluster" or "cluster load assignment"."""
    name: str
    feature: str
    path: str
    """Proto path inside the resource; "" for the whole."""
    effect: Effect
    consequence: str
    """One sentence for a person, without capital or full stop."""


def report_limitations(kind: str, name: str, limitations: Iterable[Limitation]) -> tuple[Report, ...]:
    """The limitations that decoding found in one resource."""
    return tuple(
        Report(
            kind=kind,
            name=name,
            feature=limitation.feature,
            path=limitation.path,
            effect=limitation.effect,
            consequence=_CONSEQUENCES[limitation.effect],
        )
        for limitation in limitations
    )


def report_bound(route_config: str, virtual_host: str, bound: str, needed: int, limit: int) -> Report:
    """A matcher that would take `needed` or more of what `bound` names, a plural, and may have `limit` of it."""
    return Report(
        kind="virtual host",
        name=f"{virtual_host} of {route_config}",
        feature=f"a matcher of {needed:,} {bound} or more (the limit is {limit:,})",
        path="",
        effect=Effect.RELAYED,
        consequence=_CONSEQUENCES[Effect.RELAYED],
    )


def has_refused(limitations: Iterable[Limitation]) -> bool:
    """Whether one of them forbids routing the connection at all."""
    return any(limitation.effect is Effect.REFUSED for limitation in limitations)
