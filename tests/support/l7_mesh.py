"""A kernel with routes, servers, and the relay's stand-in, in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import pyroute2

from kmesh.compiler.ir import Routing
from kmesh.compiler.routes.unit import compile_routing, routing_id
from kmesh.maps.image import Fragment, MapImage, merge_tables
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action
from kmesh.records.digest import name_id
from tests.kernel.conftest import Kernel
from tests.support.records import frontend
from tests.support.relay_double import RelayDouble
from tests.support.route_oracle import Case, decode_case

__all__ = ["VIP", "L7Mesh"]

VIP = SocketAddress.parse("127.96.0.1", 80)


class L7Mesh:
    """Context manager: `routes` at VIP, clusters at the `endpoints` of their names; the stand-in is in one namespace.

    `netns`: a name in /run/netns, or this one.
    """

    def __init__(
        self,
        kernel: Kernel,
        routes: dict[str, Any],
        endpoints: Mapping[str, tuple[str, int]],
        *,
        pool_size: int = 4,
        netns: str = "",
    ) -> None:
        self._netns = netns
        manager = decode_case(Case(routes=routes, requests=()))
        assert manager.route_config
        unit = compile_routing(Routing(name="case", config=manager.route_config, normalization=manager.normalization))
        fragments = dict(unit.fragments)
        fragments["listener", "l"] = Fragment.of([frontend(VIP, Action.ROUTES, routing_id("case"))])
        kernel.applier.apply(MapImage(fragments=fragments))
        tables = merge_tables(fragments.values())
        by_id = {name_id("cluster", name): address for name, address in endpoints.items()}
        self.relay = RelayDouble(kernel.build.maps_dir, tables, by_id, pool_size=pool_size)

    def __enter__(self) -> L7Mesh:
        self._stop: asyncio.Event
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run_inside, args=(ready,))
        self._thread.start()
        ready.result(timeout=10)
        return self

    def _run_inside(self, ready: Future[None]) -> None:
        if self._netns:
            pyroute2.netns.setns(self._netns)  # of this thread
        asyncio.run(self._run(ready))

    async def _run(self, ready: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.relay:
            ready.set_result(None)
            await self._stop.wait()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
