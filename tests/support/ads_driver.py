"""Drives one stream of the ADS server's cores as a client would, in either variant, and shows what it was told.

Resources are as small as can be: a name, and one text that makes two versions of it differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kmesh.xds.server.any_types import AnyTypes
from kmesh.xds.server.catalog import CDS, EDS, LDS, RDS, Catalog, Resource
from kmesh.xds.server.delta import DeltaStream
from kmesh.xds.server.exchange import Receipt
from kmesh.xds.server.sotw import SotwStream

__all__ = ["DeltaDriver", "SotwDriver", "Told", "assignment", "catalog_of", "cluster", "listener", "route"]

_SHORT = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS"}
_TYPE_URLS = {short: type_url for type_url, short in _SHORT.items()}


@dataclass(frozen=True, slots=True)
class Told:
    """One response. `removed` is delta's."""

    kind: str
    names: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def catalog_of(*messages: Message) -> Catalog:
    return Catalog.of(map(Resource.pack, messages))


def cluster(name: str, value: str = "", service: str = "") -> Cluster:
    """Of type EDS; `service` is the assignment's name where it is not the cluster's."""
    found = Cluster(name=name, alt_stat_name=value, type=Cluster.EDS)
    found.eds_cluster_config.service_name = service
    found.eds_cluster_config.eds_config.ads.SetInParent()
    return found


def assignment(name: str, value: str = "") -> ClusterLoadAssignment:
    found = ClusterLoadAssignment(cluster_name=name)
    found.endpoints.add().locality.region = value
    return found


def listener(name: str, value: str = "") -> Listener:
    return Listener(name=name, stat_prefix=value)


def route(name: str, value: str = "") -> RouteConfiguration:
    return RouteConfiguration(name=name, internal_only_headers=[value] if value else [])


class SotwDriver:
    """`kind` is "CDS", "EDS", "LDS", "RDS" or a type URL; `nonces` and `versions` hold the last of each kind."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.now = 1000.0
        self.core = SotwStream()
        self.nonces: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def subscribe(self, kind: str, *names: str, nonce: str | None = None) -> Receipt:
        """With the whole list of names."""
        self._names[kind] = names
        return self._request(kind, self.nonces.get(kind, "") if nonce is None else nonce)

    def ack(self, kind: str) -> Receipt:
        return self._request(kind, self.nonces[kind])

    def nack(self, kind: str, reason: str = "bad") -> Receipt:
        return self._request(kind, self.nonces[kind], reason)

    def _request(self, kind: str, nonce: str, error: str | None = None) -> Receipt:
        request = DiscoveryRequest(
            type_url=_TYPE_URLS.get(kind, kind), response_nonce=nonce, resource_names=self._names.get(kind, ())
        )
        if error is not None:
            request.error_detail.message = error
        return self.core.receive(request)

    def next(self) -> Told | None:
        response = self.core.next_response(self.catalog, self.now)
        if response is None:
            return None
        kind = _SHORT.get(response.type_url, response.type_url)
        assert all(packed.type_url == response.type_url for packed in response.resources)
        self.nonces[kind], self.versions[kind] = response.nonce, response.version_info
        return Told(kind, tuple(_name(packed) for packed in response.resources))

    def drain(self) -> list[Told]:
        """All that comes while every response is acknowledged."""
        return _drain(self)


class DeltaDriver:
    """As SotwDriver; `versions` are by resource name."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.now = 1000.0
        self.core = DeltaStream()
        self.nonces: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def subscribe(self, kind: str, *names: str, initial: dict[str, str] | None = None, nonce: str = "") -> Receipt:
        """`nonce` puts the change into an answer."""
        return self.core.receive(
            DeltaDiscoveryRequest(
                type_url=_TYPE_URLS.get(kind, kind),
                resource_names_subscribe=names,
                initial_resource_versions=initial or {},
                response_nonce=nonce,
            )
        )

    def unsubscribe(self, kind: str, *names: str) -> Receipt:
        request = DeltaDiscoveryRequest(type_url=_TYPE_URLS.get(kind, kind), resource_names_unsubscribe=names)
        return self.core.receive(request)

    def ack(self, kind: str) -> Receipt:
        return self.subscribe(kind, nonce=self.nonces[kind])

    def nack(self, kind: str, reason: str = "bad") -> Receipt:
        request = DeltaDiscoveryRequest(type_url=_TYPE_URLS.get(kind, kind), response_nonce=self.nonces[kind])
        request.error_detail.message = reason
        return self.core.receive(request)

    def next(self) -> Told | None:
        response = self.core.next_response(self.catalog, self.now)
        if response is None:
            return None
        kind = _SHORT.get(response.type_url, response.type_url)
        for resource in response.resources:
            assert resource.resource.type_url == response.type_url
            assert resource.name == _name(resource.resource)
            self.versions[resource.name] = resource.version
        self.nonces[kind] = response.nonce
        return Told(kind, tuple(r.name for r in response.resources), tuple(response.removed_resources))

    def drain(self) -> list[Told]:
        """All that comes while every response is acknowledged."""
        return _drain(self)


def _drain(driver: SotwDriver | DeltaDriver) -> list[Told]:
    told = []
    while (one := driver.next()) is not None:
        told.append(one)
        driver.ack(one.kind)
    return told


def _name(packed: AnyMessage) -> str:
    descriptor = AnyTypes().FindMessageTypeByName(packed.type_url.rpartition("/")[2])
    message = GetMessageClass(descriptor).FromString(packed.value)
    return str(getattr(message, "name", "") or getattr(message, "cluster_name", ""))
