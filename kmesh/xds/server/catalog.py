"""What the server serves: every resource once, serialized once, shared by all streams.

No I/O. Immutable: a change is a new Catalog, and a stream learns what is new by comparing versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

__all__ = ["CDS", "EDS", "LDS", "RDS", "Catalog", "Resource", "ResourceSet"]
__all__ += ["type_name", "type_url_of"]


def type_url_of(message: Message | type[Message]) -> str:
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


def type_name(type_url: str) -> str:
    """For people: "Cluster"."""
    return type_url.rpartition(".")[2]


CDS = type_url_of(Cluster)
EDS = type_url_of(ClusterLoadAssignment)
LDS = type_url_of(Listener)
RDS = type_url_of(RouteConfiguration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of any type, ready to be put into a response."""

    name: str
    version: str
    """Digest of the content: equal content has an equal version, across restarts too."""
    packed: AnyMessage
    assignment: str = ""
    """The ClusterLoadAssignment that a cluster warms with, if it takes it from this server too; else ""."""

    @classmethod
    def pack(cls, message: Message) -> Resource:
        """Serialize `message`. Raises ValueError when it has no name."""
        name = getattr(message, "name", "") or getattr(message, "cluster_name", "")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{message.DESCRIPTOR.name} has no name")
        value = message.SerializeToString(deterministic=True)
        return cls(
            name=name,
            version=_digest(value),
            packed=AnyMessage(type_url=type_url_of(message), value=value),
            assignment=_assignment(message),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSet:
    """All resources of one type."""

    by_name: Mapping[str, Resource]
    version: str
    """Digest over the names and versions of all."""

    @classmethod
    def of(cls, resources: Mapping[str, Resource]) -> ResourceSet:
        lines = sorted(f"{name}\0{r.version}\0" for name, r in resources.items())
        return cls(by_name=resources, version=_digest("".join(lines).encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Every type's resources, by type URL."""

    sets: Mapping[str, ResourceSet] = field(default_factory=dict)

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Catalog:
        """Raises ValueError when two resources of one type have the same name."""
        by_type: dict[str, dict[str, Resource]] = {}
        for resource in resources:
            named = by_type.setdefault(resource.packed.type_url, {})
            if resource.name in named:
                raise ValueError(f"{type_name(resource.packed.type_url)} {resource.name!r} is given twice")
            named[resource.name] = resource
        return cls(sets={type_url: ResourceSet.of(named) for type_url, named in by_type.items()})

    def __getitem__(self, type_url: str) -> ResourceSet:
        """The set of a type; an empty one for a type that has no resources."""
        return self.sets.get(type_url, _NOTHING)

    def find_missing_assignments(self) -> list[str]:
        """Names that clusters would warm with and that are not there: those clusters have no endpoints."""
        wanted = {r.assignment for r in self[CDS].by_name.values() if r.assignment}
        return sorted(wanted - self[EDS].by_name.keys())

    def __len__(self) -> int:
        """Resources of all types."""
        return sum(len(s.by_name) for s in self.sets.values())


def _assignment(message: Message) -> str:
    if not isinstance(message, Cluster) or message.type != Cluster.EDS:
        return ""
    eds = message.eds_cluster_config
    is_from_here = eds.eds_config.WhichOneof("config_source_specifier") in ("ads", "self")
    return str(eds.service_name or message.name) if is_from_here else ""


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


_NOTHING = ResourceSet.of({})
