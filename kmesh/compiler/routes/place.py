"""What becomes of a request that takes a route: its action where the kernel does all that the route asks for.

Else the request is handed over, for the reason that says who does it.

    cluster a, features of the kernel only      cluster a
    weighted clusters a 9, b 0                  cluster a
    cluster a, prefix_rewrite                   hand over: action
    cluster a, cors                             hand over: waypoint
"""

from __future__ import annotations

from kmesh.compiler.ir import Share, ToCluster, Weighted, weigh
from kmesh.compiler.routes.ir import HandOver, Way
from kmesh.model.route import ClusterAction, Feature, Route, WeightedClusters
from kmesh.model.route_features import Place, classify
from kmesh.records.constants import Handover

__all__ = ["find_furthest", "find_way"]

_REASONS = {Place.RELAY: Handover.ACTION, Place.WAYPOINT: Handover.WAYPOINT, Place.REFUSED: Handover.REFUSED}
_DISTANCE = {place: distance for distance, place in enumerate(Place)}


def find_way(route: Route, place: Place) -> Way:
    """`place` is where its virtual host is served, at the nearest."""
    places = (place, find_furthest(route.features), classify(route.action.feature).place)
    furthest = max(places, key=_DISTANCE.__getitem__)
    if furthest is not Place.KERNEL:
        return HandOver(_REASONS[furthest])
    match route.action:
        case ClusterAction(cluster=cluster):
            return ToCluster(cluster)
        case WeightedClusters(clusters=clusters):
            way = weigh(tuple(Share(weighted.weight, ToCluster(weighted.name)) for weighted in clusters))
            assert isinstance(way, ToCluster | Weighted)
            return way
        case action:
            raise AssertionError(f"{action.feature} is not the kernel's")


def find_furthest(features: tuple[Feature, ...]) -> Place:
    """Of the places where they are done."""
    places = [Place.KERNEL, *(classify(feature.name).place for feature in features)]
    return max(places, key=_DISTANCE.__getitem__)
