"""What a user must know of routes by request: each feature that is not the kernel's, once for each holder.

    route configuration r, VirtualHost v: three routes with cors, one with prefix_rewrite
 -> virtual host v of r: RouteAction.cors refused, RouteAction.prefix_rewrite relayed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kmesh.compiler.report import Report
from kmesh.model.limitation import Effect
from kmesh.model.route import Feature, RouteConfiguration, VirtualHost
from kmesh.model.route_features import Place, classify

__all__ = ["report_configuration", "report_virtual_host"]

_EFFECTS = {Place.RELAY: Effect.RELAYED, Place.WAYPOINT: Effect.REFUSED, Place.REFUSED: Effect.REFUSED}
_CONSEQUENCES = {
    Place.RELAY: "its requests are the relay's to route",
    Place.WAYPOINT: "its requests are refused: a waypoint would do this",
    Place.REFUSED: "its requests are refused",
}
_UNENFORCED = "its requests are routed as configured, without this"


def report_configuration(config: RouteConfiguration) -> Iterator[Report]:
    """Of the configuration's own features."""
    yield from _report("route configuration", config.name, config.features)


def report_virtual_host(route_config: str, host: VirtualHost) -> Iterator[Report]:
    """Of its features and its routes'."""
    yield from _report("virtual host", f"{host.name} of {route_config}", _list_features(host))


def _list_features(host: VirtualHost) -> Iterator[Feature]:
    yield from host.features
    for index, route in enumerate(host.routes):
        path = f"routes[{index}]"
        yield from route.features
        yield Feature(name=route.action.feature, path=path)
        yield from (Feature(name=name, path=f"{path}.match") for name in route.match.unsupported)


def _report(kind: str, name: str, features: Iterable[Feature]) -> Iterator[Report]:
    first: dict[str, str] = {}
    for asked in features:
        first.setdefault(asked.name, asked.path)
    for feature, path in first.items():
        row = classify(feature)
        if row.place is Place.KERNEL and row.at_connect is not Effect.UNENFORCED:
            continue
        yield Report(
            kind=kind,
            name=name,
            feature=feature,
            path=path,
            effect=_EFFECTS.get(row.place, Effect.UNENFORCED),
            consequence=_CONSEQUENCES.get(row.place, _UNENFORCED),
        )
