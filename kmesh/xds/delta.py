"""Delta (incremental) ADS: requests and responses carry differences.

Sans-IO, see kmesh.xds.core. Source: xDS protocol, "Incremental xDS".

| what happens               | response_nonce | subscribe     | unsubscribe   | initial versions | error_detail |
|----------------------------|----------------|---------------|---------------|------------------|--------------|
| first of a type on stream  | ""             | all wanted    |               | all held         |              |
| good response, ACK         | its nonce      |               |               |                  |              |
| bad response, NACK         | its nonce      |               |               |                  | every error  |
| subscription changed       | ""             | wanted - told | told - wanted |                  |              |

Answers and subscriptions never share a request: istiod drops a request with a stale nonce whole, with whatever it
subscribes to (pilot/pkg/xds/delta.go, shouldRespondDelta).

Full-state types subscribe to the wildcard by naming nothing in their first request. Other types are not mentioned
until they have a name, since naming nothing first would be that wildcard.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from kmesh.xds.core import TypeTable
from kmesh.xds.decode import decode_resources, unwrap_resource
from kmesh.xds.nack import build_error_detail
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.type_state import NOT_RECEIVED_S, TypeState
from kmesh.xds.update import Update

__all__ = ["DeltaCore"]

log = logging.getLogger(__name__)


class DeltaCore:
    """Implements kmesh.xds.core.AdsCore."""

    def __init__(
        self, node: base_pb2.Node, types: Sequence[ResourceType], not_received_s: float = NOT_RECEIVED_S
    ) -> None:
        self.table = TypeTable(types, not_received_s)
        self._node = node
        self._is_open = False
        self._needs_node = False
        self._answers: list[discovery_pb2.DeltaDiscoveryRequest] = []

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

    def receive(self, response: discovery_pb2.DeltaDiscoveryResponse, now: float) -> Update | None:
        state = self.table.get(response.type_url)
        if state is None or not state.is_requested:
            log.warning("xds response ignored", extra={"type_url": response.type_url, "nonce": response.nonce})
            return None
        removed = frozenset(response.removed_resources)
        batch = decode_resources(
            state.kind,
            response.resources,
            lambda item: unwrap_resource(item, item.version),
            state.cache,
            removed=removed,
        )
        gone = removed - {error.name for error in batch.errors}
        update = state.apply(batch, gone, response.system_version_info, now)
        state.nonce = response.nonce
        answer = discovery_pb2.DeltaDiscoveryRequest(type_url=state.kind.type_url, response_nonce=response.nonce)
        if batch.errors:
            answer.error_detail.CopyFrom(build_error_detail(batch.errors))
            state.note_nack(answer.error_detail.message, now)
        self._answers.append(answer)
        return update

    def take_requests(self, now: float) -> list[discovery_pb2.DeltaDiscoveryRequest]:
        if not self._is_open:
            return []
        requests, self._answers = self._answers, []
        requests += [self._build_subscription(state, now) for state in self.table if state.is_due]
        if requests and self._needs_node:
            requests[0].node.CopyFrom(self._node)
            self._needs_node = False
        return requests

    def _build_subscription(self, state: TypeState, now: float) -> discovery_pb2.DeltaDiscoveryRequest:
        is_first = not state.is_requested
        subscribe, unsubscribe = state.wanted - state.told, state.told - state.wanted
        state.tell(now)  # forgets what is unsubscribed, which must not be listed as held
        held = {name: accepted.version for name, accepted in state.cache.items()} if is_first else None
        return discovery_pb2.DeltaDiscoveryRequest(
            type_url=state.kind.type_url,
            resource_names_subscribe=sorted(subscribe),
            resource_names_unsubscribe=sorted(unsubscribe),
            initial_resource_versions=held,
        )
