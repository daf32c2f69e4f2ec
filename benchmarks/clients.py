"""The two xDS clients that are compared, each as a process in a sandbox: when it had converged, and what it holds."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tests.support.envoy import ApiType, Envoy, ads_bootstrap, run_envoy, wait_until
from tests.support.sandbox import Sandbox

__all__ = ["BridgeClient", "Client", "EnvoyClient", "Memory", "run_bridge", "run_client"]

_CONVERGE_S = 120.0
LOG_LEVEL = "info"
_QUIET_S = 0.5
"""After the last image for this long nothing more is coming."""
_STOP_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one process, in KiB. Source: proc(5), smaps_rollup."""

    rss: int
    pss: int

    @classmethod
    def of(cls, pid: int) -> Memory:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return cls(rss=sizes["Rss"], pss=sizes["Pss"])


class Client(Protocol):
    """A running xDS client."""

    @property
    def pid(self) -> int: ...

    def wait_converged(self, services: int) -> dict[str, float]:
        """When (Unix time) it came to have all of so many services, by the name of what is meant by that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeClient:
    pid: int
    log: Path
    """JSON lines, to the millisecond."""
    folder: Path
    """Holds its state and the socket of its API."""

    def wait_converged(self, services: int) -> dict[str, float]:
        """The end of the apply that wrote the last record."""
        wait_until(self._is_quiet, _CONVERGE_S, f"an image of {services} services")
        applied = self.applied()
        upserts = sum(entry["upserts"] for entry in applied)
        assert upserts >= 2 * services, f"{upserts} records are not {services} services"
        return {"in force": _unix_time(applied[-1]["time"])}

    def applied(self) -> list[dict[str, Any]]:
        """Its `image_applied` events."""
        lines = self.log.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n") and line.startswith("{")]
        return [entry for entry in entries if entry["event"] == "image_applied"]

    def _is_quiet(self) -> bool:
        applied = self.applied()
        return bool(applied) and time.time() > _unix_time(applied[-1]["time"]) + _QUIET_S


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyClient:
    """Its events are read from its log, to the millisecond: asking its admin interface would slow it down."""

    envoy: Envoy

    @property
    def pid(self) -> int:
        return self.envoy.pid

    def wait_converged(self, services: int) -> dict[str, float]:
        """`in force`: its last cluster is warm. `listening`: its listeners are there too and its workers run."""
        wait_until(lambda: self._find("starting workers") is not None, _CONVERGE_S, "Envoy to start its workers")
        stats = self.envoy.stats("^cluster_manager.(active|warming)_clusters$")
        assert stats["cluster_manager.active_clusters"] >= services, stats
        assert stats["cluster_manager.warming_clusters"] == 0, stats
        warm, listening = self._find("all clusters initialized"), self._find("starting workers")
        assert warm is not None and listening is not None
        return {"in force": warm, "listening": listening}

    def _find(self, text: str) -> float | None:
        """When it logged that; its log is in local time."""
        found = re.search(rf"^\[([-\d]+ [:.\d]+)\].*{re.escape(text)}", self.envoy.log.read_text(), re.MULTILINE)
        return datetime.fromisoformat(found[1]).timestamp() if found else None


@contextmanager
def run_client(name: str, sandbox: Sandbox, port: int, variant: str) -> Iterator[Client]:
    """`name` is "bridge" or "envoy"."""
    if name == "bridge":
        with run_bridge(sandbox, port, variant) as bridge:
            yield bridge
    else:
        bootstrap = ads_bootstrap("127.0.0.1", port, ApiType[variant.upper()], "benchmark-envoy")
        with run_envoy(bootstrap, sandbox.spawn) as envoy:
            yield EnvoyClient(envoy=envoy)


@contextmanager
def run_bridge(sandbox: Sandbox, port: int, variant: str) -> Iterator[BridgeClient]:
    """A bridge of the sandbox's instance, with `pods` enrolled."""
    log = sandbox.folder / "bridge.log"
    argv: list[str | Path] = [sys.executable, "-m", "kmesh.bridge", "--xds-server", f"127.0.0.1:{port}"]
    argv += ["--xds-variant", variant, "--instance", sandbox.instance, "--cgroup", sandbox.pods]
    argv += ["--state-dir", sandbox.folder / "state", "--api-socket", sandbox.folder / "api.sock"]
    argv += ["--log-format", "json", "--log-level", LOG_LEVEL]
    with log.open("w") as stream:
        process = sandbox.spawn(argv, stderr=stream)
    try:
        yield BridgeClient(pid=process.pid, log=log, folder=sandbox.folder)
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(_STOP_S)


def _unix_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
