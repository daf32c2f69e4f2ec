"""A kernel with routes, servers, and the relay, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from kmesh.compiler.ir import Routing
from kmesh.compiler.routes.unit import compile_routing, routing_id
from kmesh.kernel import bpf
from kmesh.maps.image import Fragment, MapImage
from kmesh.model.address import SocketAddress
from kmesh.records.constants import Action
from kmesh.records.digest import name_id
from kmesh.relay.configuration import ClusterOptions, Configuration, write_configuration
from kmesh.relay.relay import Relay
from tests.kernel.conftest import Kernel
from tests.support.records import backend, cluster, cursor_node, frontend
from tests.support.route_oracle import Case, decode_case

__all__ = ["VIP", "Carried", "L7Mesh"]

VIP = SocketAddress.parse("127.96.0.1", 80)
_READY_S = 5.0
_FILLED_S = 2.0


@dataclass(frozen=True, slots=True)
class Carried:
    """Exchanges up to now."""

    kernel: int
    """That ended in the kernel."""
    relay: int
    """That the relay carried or answered."""
    answers: int
    """Begun by the kernel, whose answers the relay carried."""


class L7Mesh:
    """Context manager: `routes` at VIP, clusters at the `endpoints` of their names, connections to each ready where
    they can be. `netns`: the name in /run/netns of the clients' namespace, where that is another."""

    def __init__(
        self,
        kernel: Kernel,
        routes: dict[str, Any],
        endpoints: Mapping[str, tuple[str, int]],
        *,
        pool_size: int = 4,
        netns: str = "",
    ) -> None:
        self.kernel, self._pool_size, self._netns = kernel, pool_size, netns
        manager = decode_case(Case(routes=routes, requests=()))
        assert manager.route_config
        self._routing = Routing(name="case", config=manager.route_config, normalization=manager.normalization)
        self._path = kernel.sandbox.folder / "relay.msgpack"
        self._endpoints: dict[str, list[tuple[str, int]]] = {name: [at] for name, at in endpoints.items()}
        self._configure()
        self.relay = Relay(kernel.build.maps_dir, self._path, [kernel.sandbox.pods])

    def _configure(self) -> None:
        clusters = {name: ClusterOptions(id=name_id("cluster", name)) for name in self._endpoints}
        configuration = Configuration(routings={routing_id("case"): self._routing}, clusters=clusters)
        write_configuration(self._path, configuration)
        fragments = dict(compile_routing(self._routing).fragments)
        fragments["listener", "l"] = Fragment.of([frontend(VIP, Action.ROUTES, routing_id("case"))])
        for name, addresses in self._endpoints.items():
            fragments["cluster", name] = _compile_cluster(name, addresses)
        self.kernel.applier.apply(MapImage(fragments=fragments))

    def __enter__(self) -> L7Mesh:
        self._stop: asyncio.Event
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(ready),))
        self._thread.start()
        ready.result(timeout=10)
        if self._netns:
            self._start_pause()
        self.wait_for_pools(*self._endpoints)
        return self

    def _start_pause(self) -> None:
        """What a pod has before anything else: a process in its namespace and its cgroup."""
        self.kernel.sandbox.spawn(["nsenter", f"--net=/run/netns/{self._netns}", "sleep", "infinity"], enrolled=True)
        deadline = time.monotonic() + _READY_S
        while len(self.status()["namespaces"]) < 2:
            assert time.monotonic() < deadline, "the namespace was not found"
            time.sleep(0.005)

    async def _run(self, ready: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self.relay:
                running = asyncio.create_task(self.relay.run())
                stopping = asyncio.create_task(self._stop.wait())
                ready.set_result(None)
                await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def change_endpoints(self, name: str, addresses: list[tuple[str, int]]) -> None:
        """Of one cluster, and tell the relay."""
        self.point_at(name, addresses)
        asyncio.run_coroutine_threadsafe(self.relay.reload(), self._loop).result(timeout=5)

    def point_at(self, name: str, addresses: list[tuple[str, int]]) -> None:
        """One cluster, where there is no relay to be told."""
        self._endpoints[name] = addresses
        self._configure()

    def wait_for_pools(self, *names: str) -> None:
        """Until each has `pool_size` connections that are free, or that takes too long: servers may not want it."""
        clusters = {name_id("cluster", name) for name in names}
        self.on_loop(lambda: self.relay.prefill(sorted(clusters), self._pool_size // 2))
        deadline = time.monotonic() + _FILLED_S
        while clusters and time.monotonic() < deadline:
            full = Counter(pool["cluster"] for pool in self.status()["pools"] if pool["idle"] >= self._pool_size)
            clusters = {number for number in clusters if full[number] < 1 + bool(self._netns)}
            time.sleep(0.01)

    def settle(self) -> None:
        """Wait until clients that have ended are gone, and what programs told of them was heard."""
        streams = bpf.get_object(self.kernel.build.maps_dir / "km_stream")
        deadline = time.monotonic() + _READY_S
        while list(bpf.keys(streams, 8)):
            assert time.monotonic() < deadline, "clients do not go away"
            time.sleep(0.005)
        os.close(streams)
        time.sleep(0.02)  # the relay's thread reads the ring

    def status(self) -> dict[str, Any]:
        return self.on_loop(self.relay.status)

    def count(self) -> Carried:
        status = self.status()
        relayed = Counter(status["relayed"])
        answers = sum(count for why, count in relayed.items() if why.startswith("answer: "))
        return Carried(status["kernel_exchanges"], relayed.total() - answers, answers)

    def on_loop(self, work) -> Any:
        """What `work` returns in the relay's thread."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=5)


def _compile_cluster(name: str, addresses: list[tuple[str, int]]) -> Fragment:
    backends = [backend(SocketAddress.parse(*address), cluster_name=name) for address in addresses]
    node, records = cursor_node(name, [number for number, _ in backends])
    _, cell = cluster(name, Action.NODE, node)
    return Fragment.of([*(record for _, record in backends), *records, cell])
