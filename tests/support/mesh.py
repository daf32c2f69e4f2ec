"""A mesh of any size as xDS resources, for tests of scale and for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.message import Message

from kmesh.xds.server import Catalog, Resource

__all__ = ["Mesh", "generate_mesh"]

SERVICE_PORT = 80
ENDPOINT_PORT = 8080
_FIRST_SERVICE = IPv4Address("10.96.0.1")
_FIRST_ENDPOINT = IPv4Address("10.128.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """One listener, cluster and load assignment per service, each in the order of the services."""

    listeners: tuple[Listener, ...]
    clusters: tuple[Cluster, ...]
    assignments: tuple[ClusterLoadAssignment, ...]

    def __iter__(self) -> Iterator[Message]:
        yield from self.clusters
        yield from self.assignments
        yield from self.listeners

    def catalog(self) -> Catalog:
        return Catalog.of(map(Resource.pack, self))


def generate_mesh(
    services: int,
    endpoints: int,
    *,
    first_service: IPv4Address = _FIRST_SERVICE,
    first_endpoint: IPv4Address = _FIRST_ENDPOINT,
    endpoint_port: int = ENDPOINT_PORT,
) -> Mesh:
    """`endpoints` for each service. No two services or endpoints share an address; nothing is bound."""
    names = [f"service-{i}" for i in range(services)]
    return Mesh(
        listeners=tuple(make_listener(name, str(first_service + i)) for i, name in enumerate(names)),
        clusters=tuple(make_cluster(name) for name in names),
        assignments=tuple(
            make_assignment(
                name, [str(first_endpoint + i * endpoints + n) for n in range(endpoints)], endpoint_port
            )
            for i, name in enumerate(names)
        ),
    )


def make_listener(name: str, address: str, port: int = SERVICE_PORT) -> Listener:
    """TCP to the cluster of the same name, not bound: captured before it would be reached."""
    listener = Listener(name=name)
    listener.address.socket_address.address = address
    listener.address.socket_address.port_value = port
    listener.bind_to_port.value = False
    proxy = listener.filter_chains.add().filters.add(name="envoy.filters.network.tcp_proxy")
    proxy.typed_config.Pack(TcpProxy(stat_prefix=name, cluster=name))
    return listener


def make_cluster(name: str) -> Cluster:
    """Its endpoints come by EDS, over the same stream."""
    cluster = Cluster(name=name, type=Cluster.EDS)
    cluster.connect_timeout.FromSeconds(1)
    ads = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    cluster.eds_cluster_config.eds_config.CopyFrom(ads)
    return cluster


def make_assignment(name: str, addresses: list[str], port: int = ENDPOINT_PORT) -> ClusterLoadAssignment:
    assignment = ClusterLoadAssignment(cluster_name=name)
    locality = assignment.endpoints.add()
    for address in addresses:
        socket_address = locality.lb_endpoints.add().endpoint.address.socket_address
        socket_address.address = address
        socket_address.port_value = port
    return assignment
