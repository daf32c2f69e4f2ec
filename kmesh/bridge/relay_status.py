"""What the relay says of itself, as a view: ids become names again. Pure.

    {"pid": 7, "started_at": Unix time, "clients": 2, "kernel_exchanges": 9, "relayed": {"action": 3},
     "dial_failures": {}, "untold": 0, "pools": [{"cluster": id, "namespace": cookie, "idle": 4, "bound": 1}],
     "namespaces": [{"cookie": cookie, "acceptors": ["127.0.0.1:15001"]}]}

A relay of another version may say less, or more: what is missing is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kmesh.bridge.view import CountView, NamespaceView, PoolView, RelayView
from kmesh.records.digest import name_id

__all__ = ["view_relay"]


def view_relay(status: Mapping[str, Any], clusters: Iterable[str]) -> RelayView:
    """`clusters` are the names that ids may stand for; an id of none of them is shown as it is."""
    names = {name_id("cluster", name): name for name in clusters}
    started_at = status.get("started_at")
    return RelayView(
        pid=status.get("pid", 0),
        started_at=datetime.fromtimestamp(started_at, UTC) if started_at else None,
        clients=status.get("clients", 0),
        kernel_exchanges=status.get("kernel_exchanges", 0),
        relayed=_counts(status.get("relayed", {})),
        dial_failures=_counts(status.get("dial_failures", {})),
        untold=status.get("untold", 0),
        pools=tuple(_pools(status.get("pools", ()), names)),
        namespaces=tuple(
            NamespaceView(cookie=namespace["cookie"], acceptors=tuple(namespace["acceptors"]))
            for namespace in status.get("namespaces", ())
        ),
    )


def _counts(counts: Mapping[str, int]) -> tuple[CountView, ...]:
    """The most frequent first; none that is 0."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(CountView(reason=reason, count=count) for reason, count in ordered if count)


def _pools(pools: Iterable[Mapping[str, int]], names: Mapping[int, str]) -> list[PoolView]:
    views = [
        PoolView(
            cluster=names.get(pool["cluster"], f"{pool['cluster']:016x}"),
            namespace=pool["namespace"],
            idle=pool["idle"],
            bound=pool["bound"],
        )
        for pool in pools
    ]
    return sorted(views, key=lambda pool: (pool.cluster, pool.namespace))
