"""A mesh that routes HTTP/1.1 request by request, for tests of clients and servers end to end.

Tests know `HttpMesh` alone: where to connect to, from which cgroup, and how many exchanges the kernel and the relay
have carried. `http_mesh` makes one of the real programs and, at their other end, the relay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kmesh.kernel.features import probe_features
from kmesh.model.address import SocketAddress
from tests.kernel.conftest import open_kernel
from tests.support.l7_mesh import VIP, L7Mesh
from tests.support.sandbox import Sandbox

__all__ = ["Carried", "HttpMesh", "carried", "http_mesh", "make_routes"]

Address = tuple[str, int]
_SETTLES_S = 3.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Carried:
    """Exchanges that have ended. One is the kernel's only if its request and its answer both were."""

    kernel: int
    relay: int

    @property
    def total(self) -> int:
        return self.kernel + self.relay


class HttpMesh(Protocol):
    """Programs attached to `sandbox.pods`; `vip` leads to `clusters` as make_routes() says."""

    @property
    def sandbox(self) -> Sandbox: ...

    @property
    def vip(self) -> SocketAddress: ...

    @property
    def clusters(self) -> Mapping[str, Address]: ...

    def count(self) -> Carried: ...


def make_routes(*clusters: str, weights: Mapping[str, int] | None = None) -> dict[str, Any]:
    """A path /<cluster>/... leads there, and so does /by-header/... with x-to; /split/ is by `weights`.

    /none/ leads to a cluster without endpoints, /redirect/ to elsewhere; nothing takes any other path.
    """
    whole = {"timeout": "0s"}
    routes: list[dict[str, Any]] = []
    for name in clusters:
        by_header = {"prefix": "/by-header/", "headers": [{"name": "x-to", "string_match": {"exact": name}}]}
        routes.append({"match": by_header, "route": {"cluster": name, **whole}})
        routes.append({"match": {"prefix": f"/{name}/"}, "route": {"cluster": name, **whole}})
    routes.append({"match": {"prefix": "/none/"}, "route": {"cluster": "nowhere", **whole}})
    routes.append({"match": {"prefix": "/redirect/"}, "redirect": {"path_redirect": "/elsewhere"}})
    if weights:
        shares = {"clusters": [{"name": name, "weight": weight} for name, weight in weights.items()]}
        routes.append({"match": {"prefix": "/split/"}, "route": {"weighted_clusters": shares, **whole}})
    return {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}


@contextmanager
def http_mesh(
    sandbox: Sandbox,
    clusters: Mapping[str, Address],
    *,
    weights: Mapping[str, int] | None = None,
    pool_size: int = 4,
    netns: str = "",
) -> Iterator[HttpMesh]:
    """`netns`: the name in /run/netns of the clients' namespace, where that is another."""
    kernel = open_kernel(sandbox, probe_features())
    routes = make_routes(*clusters, weights=weights)
    with L7Mesh(kernel, routes, clusters, pool_size=pool_size, netns=netns) as mesh:
        yield _InProcess(sandbox, VIP, clusters, mesh)


@dataclass(frozen=True, slots=True)
class _InProcess:
    sandbox: Sandbox
    vip: SocketAddress
    clusters: Mapping[str, Address]
    mesh: L7Mesh

    def count(self) -> Carried:
        count = self.mesh.count()
        return Carried(kernel=count.kernel, relay=count.relay + count.answers)


class carried:
    """Context manager: what was carried inside, `wanted` exchanges in all; the last may take a moment to be counted.

    `wanted` None: as many as there are when the count stands still.
    """

    def __init__(self, mesh: HttpMesh, wanted: int | None = None) -> None:
        self._mesh, self._wanted = mesh, wanted

    def __enter__(self) -> carried:
        self._before = self._count_settled()
        return self

    def _count_settled(self) -> Carried:
        """What programs tell of connections that have ended is heard a moment later."""
        before = self._mesh.count()
        while True:
            time.sleep(2 * _POLL_S)
            now = self._mesh.count()
            if now == before:
                return now
            before = now

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._settle()

    def _settle(self) -> None:
        deadline, last = time.monotonic() + _SETTLES_S, Carried(-1, -1)
        while time.monotonic() < deadline:
            now = self._mesh.count()
            self.found = Carried(now.kernel - self._before.kernel, now.relay - self._before.relay)
            if self._wanted is None and self.found == last:
                return
            if self.found.total == self._wanted:
                return
            last = self.found
            time.sleep(_POLL_S if self._wanted is not None else 10 * _POLL_S)
        assert self._wanted is None, f"{self.found} instead of {self._wanted} exchanges"
