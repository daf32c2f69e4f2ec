"""The relay's status as a view."""

from __future__ import annotations

from datetime import UTC, datetime

from kmesh.bridge.relay_status import view_relay
from kmesh.bridge.view import CountView, NamespaceView, PoolView, RelayView
from kmesh.records.digest import name_id


def test_everything_it_says() -> None:
    status = {
        "pid": 7,
        "started_at": 1_700_000_000.0,
        "clients": 2,
        "kernel_exchanges": 9,
        "relayed": {"framing": 1, "action": 3, "bound": 0},
        "dial_failures": {"connection refused": 2},
        "untold": 12,
        "pools": [
            {"cluster": name_id("cluster", "b"), "namespace": 5, "idle": 4, "bound": 1},
            {"cluster": 255, "namespace": 5, "idle": 0, "bound": 0},
        ],
        "namespaces": [{"cookie": 5, "acceptors": ["127.0.0.1:15001"]}],
        "newer": "than this",
    }
    assert view_relay(status, ["a", "b"]) == RelayView(
        pid=7,
        started_at=datetime.fromtimestamp(1_700_000_000, UTC),
        clients=2,
        kernel_exchanges=9,
        relayed=(CountView(reason="action", count=3), CountView(reason="framing", count=1)),
        dial_failures=(CountView(reason="connection refused", count=2),),
        untold=12,
        pools=(
            PoolView(cluster="00000000000000ff", namespace=5, idle=0, bound=0),
            PoolView(cluster="b", namespace=5, idle=4, bound=1),
        ),
        namespaces=(NamespaceView(cookie=5, acceptors=("127.0.0.1:15001",)),),
    )


def test_a_relay_that_says_less() -> None:
    assert view_relay({"pid": 7}, []) == RelayView(pid=7)
