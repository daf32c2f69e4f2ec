"""State-of-the-World ADS: every request lists all names, every response of LDS and CDS is the whole set.

Sans-IO, see kmesh.xds.core. Source: xDS protocol, "Basic protocol overview", "ACK/NACK and resource type instance
version", "Deleting resources".

| what happens               | version_info  | response_nonce   | names    | error_detail |
|----------------------------|---------------|------------------|----------|--------------|
| first request on a stream  | last accepted | ""               | wanted   |              |
| good response, ACK         | its version   | its nonce        | as told  |              |
| bad response, NACK         | last accepted | its nonce        | as told  | every error  |
| subscription changed       | last accepted | last on stream   | wanted   |              |
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from kmesh.xds.core import TypeTable
from kmesh.xds.decode import Batch, decode_resources, unwrap_any
from kmesh.xds.nack import build_error_detail
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.type_state import NOT_RECEIVED_S, TypeState
from kmesh.xds.update import Update

__all__ = ["SotwCore"]

log = logging.getLogger(__name__)


class SotwCore:
    """Implements kmesh.xds.core.AdsCore."""

    def __init__(
        self, node: base_pb2.Node, types: Sequence[ResourceType], not_received_s: float = NOT_RECEIVED_S
    ) -> None:
        self.table = TypeTable(types, not_received_s)
        self._node = node
        self._is_open = False
        self._needs_node = False
        self._answers: list[discovery_pb2.DiscoveryRequest] = []

    def open_stream(self) -> None:
        self._is_open = True
        self._needs_node = True
        for state in self.table:
            state.open_stream()

    def lose_stream(self) -> None:
        self._is_open = False
        self._answers.clear()
        for state in self.table:
            state.lose_stream()

    def receive(self, response: discovery_pb2.DiscoveryResponse, now: float) -> Update | None:
        state = self.table.get(response.type_url)
        if state is None or not state.is_requested:
            log.warning("xds response ignored", extra={"type_url": response.type_url, "nonce": response.nonce})
            return None
        version = response.version_info
        batch = decode_resources(
            state.kind,
            response.resources,
            lambda item: unwrap_any(item, version),
            state.cache,
            current_version=state.version,
        )
        update = state.apply(batch, _absent_names(state, batch), version, now)
        state.nonce = response.nonce
        detail = None
        if batch.errors:
            detail = build_error_detail(batch.errors)
            state.note_nack(detail.message, now)
        self._answers.append(self._build_request(state, state.told, detail))
        return update

    def take_requests(self, now: float) -> list[discovery_pb2.DiscoveryRequest]:
        if not self._is_open:
            return []
        requests, self._answers = self._answers, []
        for state in self.table:
            if state.is_due:
                state.tell(now)
                requests.append(self._build_request(state, state.wanted, None))
        return requests

    def _build_request(
        self, state: TypeState, names: Iterable[str], detail: status_pb2.Status | None
    ) -> discovery_pb2.DiscoveryRequest:
        node, self._needs_node = (self._node if self._needs_node else None), False
        return discovery_pb2.DiscoveryRequest(
            node=node,
            type_url=state.kind.type_url,
            version_info=state.version,
            response_nonce=state.nonce,
            resource_names=sorted(names),
            error_detail=detail,
        )


def _absent_names(state: TypeState, batch: Batch) -> Iterable[str]:
    """The names that the response deletes by leaving them out.

    None when it says nothing of absent resources (a type that is not full-state, a heartbeat), nor when it holds
    a resource too broken to be named: that one may be any of those which seem absent.
    """
    if not state.kind.is_full_state or batch.is_heartbeat or batch.has_nameless_error:
        return ()
    return (state.cache.names() | state.rejected.keys()) - batch.resources.keys() - {e.name for e in batch.errors}
