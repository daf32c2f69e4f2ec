"""An embedded ADS server as a process of its own, with a mesh in it, that says when what left it.

`python -m benchmarks.mesh_server < JOB`: the first line of standard input is a Job as JSON; each further line moves
the probe service to the other of its two endpoints and publishes that. Standard output has one JSON object a line,
`at` in Unix time:

    {"event": "listening", "port": 34567}
    {"event": "stream opened", "at": 1767225600.123456}
    {"event": "published", "at": ...}
    {"event": "response", "type": "ClusterLoadAssignment", "at": ...}      handed to the transport from here on
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any

import uvloop
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.message import Message

from kmesh.model.address import HostAddress
from kmesh.xds.server import AdsServer, Catalog, Resource
from tests.support.mesh import Mesh, generate_mesh, make_assignment, make_cluster, make_listener

__all__ = ["Job", "Probe"]

_PROBE = "probe"
_FIRST_SERVICE = IPv4Address("127.64.0.1")
_FIRST_ENDPOINT = IPv4Address("127.128.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One more service, whose connections tell which configuration is in force.

    Of its endpoints one has priority 0 and takes every connection; it is on one of two ports. The others, as many as
    any service has, are at priority 1. Its listener is bound, so that Envoy can be connected to.
    """

    address: str
    port: int
    endpoint: str
    endpoint_ports: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to serve."""

    services: int
    endpoints: int
    """Of each service."""
    endpoint_port: int
    probe: Probe | None = None

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Job:
        fields = json.loads(line)
        probe = fields.pop("probe")
        return cls(**fields, probe=Probe(**probe) if probe else None)

    def service_address(self, index: int) -> str:
        return str(_FIRST_SERVICE + index)

    def endpoint_addresses(self, index: int) -> list[str]:
        """Of one service."""
        return [str(_FIRST_ENDPOINT + index * self.endpoints + n) for n in range(self.endpoints)]

    def mesh(self) -> Mesh:
        return generate_mesh(
            self.services,
            self.endpoints,
            first_service=_FIRST_SERVICE,
            first_endpoint=_FIRST_ENDPOINT,
            endpoint_port=self.endpoint_port,
        )


def main() -> None:
    job = Job.from_line(sys.stdin.readline())
    log = logging.getLogger("kmesh.xds.server.serve")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(_Clock())
    uvloop.run(_serve(job))


async def _serve(job: Job) -> None:
    mesh = list(map(Resource.pack, job.mesh()))
    catalogs = [Catalog.of([*mesh, *map(Resource.pack, resources)]) for resources in _probe_resources(job)]
    turn = 0
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AdsServer(catalogs[turn], HostAddress("127.0.0.1", 0)) as server:
        assert isinstance(server.address, HostAddress)
        _tell(event="listening", port=server.address.port)
        while await reader.readline():
            turn = 1 - turn
            _tell(event="published", at=time.time())
            server.publish(catalogs[turn])


def _probe_resources(job: Job) -> Iterable[Iterable[Message]]:
    """Of both turns."""
    if job.probe is None:
        return [[], []]
    return [_make_probe(job, job.probe, port) for port in job.probe.endpoint_ports]


def _make_probe(job: Job, probe: Probe, endpoint_port: int) -> list[Message]:
    listener = make_listener(_PROBE, probe.address, probe.port)
    listener.bind_to_port.value = True
    assignment = ClusterLoadAssignment(cluster_name=_PROBE)
    assignment.MergeFrom(make_assignment(_PROBE, [probe.endpoint], endpoint_port))
    spare = make_assignment(_PROBE, job.endpoint_addresses(job.services)[1:], job.endpoint_port)
    spare.endpoints[0].priority = 1
    assignment.endpoints.extend(spare.endpoints)
    return [make_cluster(_PROBE), assignment, listener]


class _Clock(logging.Handler):
    """Tells of the server's own log records when each was made: for a response, that is right before it is sent."""

    def emit(self, record: logging.LogRecord) -> None:
        event = str(record.msg).partition(":")[0]
        if event == "response" and isinstance(record.args, tuple):
            _tell(event=event, type=record.args[1], at=record.created)
        elif event == "stream opened":
            _tell(event=event, at=record.created)


def _tell(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
