"""Envoy as a pod's sidecar: in the pod's network namespace, all of its traffic redirected to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Any

from benchmarks.traffic.interception import SIDECAR_GROUP, intercept
from tests.support.envoy import ApiType, ads_bootstrap, wait_until
from tests.support.pods import inside
from tests.support.sandbox import Sandbox

__all__ = ["CONCURRENCY", "run_sidecar"]

CONCURRENCY = min(2, os.cpu_count() or 1)
"""Worker threads. Istio's default is 2, from the sidecar's CPU limit of 2000m."""
_READY_S = 20.0
_STOP_S = 5.0


@contextmanager
def run_sidecar(sandbox: Sandbox, pod: str, ads: Path) -> Iterator[int]:
    """Yields its process id, once it has its whole configuration and the pod's traffic goes through it."""
    folder = sandbox.folder / f"sidecar-{pod}"
    folder.mkdir()
    config, log = folder / "envoy.json", folder / "log"
    config.write_text(dumps(_bootstrap(pod, ads, folder / "admin")))
    command: list[str | Path] = [*inside(sandbox, pod)]
    command += ["setpriv", "--regid", str(SIDECAR_GROUP), "--clear-groups", Path(sys.executable).with_name("envoy")]
    command += ["--config-path", config, "--concurrency", str(CONCURRENCY), "--disable-hot-restart"]
    command += ["--log-level", "info"]
    with log.open("w") as stream:
        process = sandbox.spawn(command, stdout=subprocess.DEVNULL, stderr=stream)
    try:
        wait_until(lambda: _has_started(process, log), _READY_S, f"the sidecar of {pod}")
        intercept(sandbox, pod)
        yield process.pid
        assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait(_STOP_S)


def _has_started(process: subprocess.Popen[str], log: Path) -> bool:
    written = log.read_text()
    assert process.poll() is None, f"Envoy ended with {process.returncode}:\n{written}"
    return "starting workers" in written


def _bootstrap(pod: str, ads: Path, admin: Path) -> dict[str, Any]:
    """Of an Envoy that reaches the control plane, and is reached, over Unix sockets: pods have no way to the host."""
    bootstrap = ads_bootstrap("127.0.0.1", 0, ApiType.DELTA, pod)
    [cluster] = bootstrap["static_resources"]["clusters"]
    [group] = cluster["load_assignment"]["endpoints"]
    group["lb_endpoints"] = [{"endpoint": {"address": {"pipe": {"path": str(ads)}}}}]
    return bootstrap | {"admin": {"address": {"pipe": {"path": str(admin)}}}}
