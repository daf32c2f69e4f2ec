"""The embedded ADS server in a thread of the test's, which publishes at once what it is given.

Each publication carries a marker of its own: a listener that is served only after all that came with it, since its
route comes last (CDS, EDS, LDS, RDS). A bridge has taken the publication over once that listener is in the kernel.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from google.protobuf import json_format
from google.protobuf.message import Message

from kmesh.model.address import HostAddress
from kmesh.xds.server import AdsServer, Catalog, Resource
from kmesh.xds.server.catalog import type_url_of
from tests.support.loop_thread import LoopThread
from tests.support.name_server import Address
from tests.support.services import ADS, captured, http_to, parse, static_cluster

__all__ = ["ControlPlane", "write_resources"]

_numbers = itertools.count(1)
"""Of publications, whoever's: so a marker that an earlier one left in the kernel is not taken for a new one."""


class ControlPlane:
    """Context manager; listens on a port of 127.0.0.1 until stop(), and on the same after start()."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._server = AdsServer(Catalog(), HostAddress("127.0.0.1", 0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return str(self._server.address)

    def start(self) -> None:
        self._loop.run(self._server.start())

    def stop(self) -> None:
        self._loop.run(self._server.stop())

    def publish(self, *resources: Message) -> Address:
        """Serve these and no others. Returns the marker's address."""
        number = next(_numbers)
        marker = (f"127.255.{number >> 8}.{number & 255}", 1)
        catalog = Catalog.of(map(Resource.pack, (*resources, *_mark(number, marker))))
        self._loop.call(self._server.publish, catalog)
        return marker


def _mark(number: int, address: Address) -> Iterable[Message]:
    name = f"marker-{number}"
    yield static_cluster("marker")
    yield captured("marker", address, http_to(rds={"route_config_name": name, "config_source": ADS}))
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "marker"}}]
    yield parse("RDS", {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})


def write_resources(directory: Path, *resources: Message) -> None:
    """The one file of a --config-dir, replaced in one step."""
    entries = [
        {"@type": type_url_of(message), **json_format.MessageToDict(message, preserving_proto_field_name=True)}
        for message in resources
    ]
    temporary = directory / ".resources"
    temporary.write_text(json.dumps({"resources": entries}))
    temporary.replace(directory / "resources.json")
