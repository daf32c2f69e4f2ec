"""What the relay is told of a compilation: the routes that requests take, and the clusters that those lead to."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from kmesh.compiler import Compilation
from kmesh.compiler.routes.unit import routing_id
from kmesh.model.cluster import UpstreamHttp
from kmesh.records.digest import name_id
from kmesh.relay.configuration import CONFIGURATION_FILE, ClusterOptions, Configuration, write_configuration

__all__ = ["RelayConfigurationWriter", "build_configuration"]

_log = logging.getLogger(__name__)


def build_configuration(compilation: Compilation) -> Configuration:
    return Configuration(
        routings={routing_id(name): unit.routing for name, unit in compilation.routings.items()},
        clusters={
            name: ClusterOptions(
                id=name_id("cluster", name),
                connect_timeout_s=cluster.connect_timeout_s,
                is_http2_only=cluster.upstream_http is UpstreamHttp.HTTP2,
            )
            for name, cluster in compilation.upstreams.items()
        },
    )


class RelayConfigurationWriter:
    """Keeps the file in the state directory what the newest compilation says. Blocks: for a thread."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / CONFIGURATION_FILE
        self._written: Configuration | None = None
        """By this process."""

    def write(self, compilation: Compilation) -> bool:
        """Before its image is in force. False where the file says the same already.

        Costs 50 ms for 5,000 routes, and only where some of them changed. Raises: OSError, and then the file is what
        it was.
        """
        configuration = build_configuration(compilation)
        if configuration == self._written:
            return False
        started = time.monotonic()
        size = write_configuration(self._path, configuration)
        self._written = configuration
        _log.debug("relay_told", extra={"bytes": size, "seconds": round(time.monotonic() - started, 4)})
        return True
