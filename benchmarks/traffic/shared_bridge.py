"""The node's bridge: one, as on any node, for all scenarios of kmesh that are up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.traffic.scenario import Running
from benchmarks.traffic.topology import PORTS, Lane
from tests.support.bridge import Bridge

__all__ = ["run_behind_bridge"]


@dataclass(slots=True)
class _Shared:
    bridge: Bridge
    stack: ExitStack
    users: int = 0


_shared: dict[str, _Shared] = {}
"""By instance."""


@contextmanager
def run_behind_bridge(lane: Lane, ads: Path) -> Iterator[Running]:
    """The lane's service as the node's bridge serves it, which runs while a lane needs it."""
    instance = lane.sandbox.instance
    if instance not in _shared:
        stack = ExitStack()
        bridge = stack.enter_context(Bridge(lane.sandbox, "--xds-server", f"unix:{ads}"))
        _shared[instance] = _Shared(bridge, stack)
    shared = _shared[instance]
    shared.users += 1
    try:
        for port in PORTS:
            shared.bridge.wait_until_serves((lane.service, port))
        processes = {"bridge": shared.bridge.process.pid}
        relay = shared.bridge.status().get("relay") or {}
        if relay.get("pid"):
            processes["relay"] = int(relay["pid"])
        yield Running(target=lane.service, processes=processes)
    finally:
        shared.users -= 1
        if not shared.users:
            del _shared[instance]
            shared.stack.close()
