"""A scripted ADS server around a protocol core, with one way of speaking for both variants. No sockets, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from kmesh.xds.config import Variant
from kmesh.xds.delta import DeltaCore
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.sotw import SotwCore
from kmesh.xds.type_state import TypeState
from kmesh.xds.update import Update
from tests.support.xds_kinds import KINDS, build_any

NODE = base_pb2.Node(id="sidecar~10.0.0.1~a.default~default.svc.cluster.local")


@dataclass(frozen=True)
class Sent:
    """A request, as far as both variants have it. `names` is the full list in SotW and the additions in delta."""

    kind: str
    nonce: str
    error: str
    names: tuple[str, ...]
    unsubscribed: tuple[str, ...]
    version: str
    initial: Mapping[str, str]
    has_node: bool


class Peer:
    """Takes the core's requests after every step, as the shell does."""

    def __init__(self, variant: Variant, kinds: Iterable[ResourceType] = KINDS) -> None:
        self.variant = variant
        self.is_delta = variant is Variant.DELTA
        self.core: Any = (DeltaCore if self.is_delta else SotwCore)(NODE, tuple(kinds))
        self.now = 1000.0
        self.sent: list[Sent] = []
        """Of the latest step only."""
        self._nonces = 0

    def state(self, kind: ResourceType) -> TypeState:
        state = self.core.table.get(kind.type_url)
        assert state is not None
        return state

    def held(self, kind: ResourceType) -> dict[str, bytes]:
        return {name: accepted.raw for name, accepted in self.state(kind).cache.items()}

    def open(self) -> list[Sent]:
        self.core.open_stream()
        return self.take()

    def lose(self) -> None:
        self.core.lose_stream()
        self.take()

    def reopen(self) -> list[Sent]:
        self.lose()
        return self.open()

    def subscribe(self, kind: ResourceType, *names: str) -> Update | None:
        update: Update | None = self.core.table.subscribe(kind.type_url, names)
        self.take()
        return update

    def pass_time(self, seconds: float) -> list[Update]:
        self.now += seconds
        updates: list[Update] = self.core.table.expire(self.now)
        return updates

    def take(self) -> list[Sent]:
        self.sent = [self._read(request) for request in self.core.take_requests(self.now)]
        return self.sent

    def push(
        self,
        kind: ResourceType,
        resources: Mapping[str, str] | None = None,
        version: str = "v1",
        *,
        removed: Iterable[str] = (),
        raw: Iterable[AnyMessage] = (),
        wrapped: Iterable[discovery_pb2.Resource] = (),
    ) -> Update | None:
        """One response: `resources` as {name: value}, then `raw` bodies, then `wrapped` resources."""
        bodies = [build_any(kind, name, value) for name, value in (resources or {}).items()]
        wrappers = list(wrapped)
        if self.is_delta:
            named = [
                discovery_pb2.Resource(name=name, version=version, resource=body)
                for name, body in zip(resources or {}, bodies, strict=True)
            ]
            unnamed = [discovery_pb2.Resource(version=version, resource=body) for body in raw]
            wrappers = named + unnamed + wrappers
        else:
            bodies += raw
        return self.push_response(self.build_response(kind, version, bodies, wrappers, removed))

    def push_response(self, response: Any) -> Update | None:
        update: Update | None = self.core.receive(response, self.now)
        self.take()
        return update

    def build_response(
        self,
        kind: ResourceType,
        version: str,
        bodies: Iterable[AnyMessage],
        wrappers: Iterable[discovery_pb2.Resource],
        removed: Iterable[str] = (),
    ) -> Any:
        self._nonces += 1
        nonce = f"n{self._nonces}"
        if self.is_delta:
            return discovery_pb2.DeltaDiscoveryResponse(
                type_url=kind.type_url,
                system_version_info=version,
                nonce=nonce,
                resources=wrappers,
                removed_resources=removed,
            )
        return discovery_pb2.DiscoveryResponse(
            type_url=kind.type_url,
            version_info=version,
            nonce=nonce,
            resources=[*bodies, *map(wrap_in_any, wrappers)],
        )

    def remove(self, kind: ResourceType, *names: str, version: str) -> Update | None:
        """Delete resources of a full-state type, the way the variant does."""
        if self.is_delta:
            return self.push(kind, removed=names, version=version)
        kept = [AnyMessage(type_url=kind.type_url, value=raw) for n, raw in self.held(kind).items() if n not in names]
        return self.push(kind, raw=kept, version=version)

    def _read(self, request: Any) -> Sent:
        kind = next(kind.name for kind in KINDS if kind.type_url == request.type_url)
        if self.is_delta:
            names, unsubscribed = request.resource_names_subscribe, request.resource_names_unsubscribe
            version, initial = "", dict(request.initial_resource_versions)
        else:
            names, unsubscribed = request.resource_names, ()
            version, initial = request.version_info, {}
        return Sent(
            kind=kind,
            nonce=request.response_nonce,
            error=request.error_detail.message if request.HasField("error_detail") else "",
            names=tuple(names),
            unsubscribed=tuple(unsubscribed),
            version=version,
            initial=initial,
            has_node=request.HasField("node"),
        )


def wrap_in_any(wrapper: discovery_pb2.Resource) -> AnyMessage:
    item = AnyMessage()
    item.Pack(wrapper)
    return item
