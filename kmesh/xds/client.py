"""The asyncio shell of the xDS client: keeps an ADS stream open for ever, and carries messages for a core.

Decides nothing of the protocol (kmesh.xds.sotw, kmesh.xds.delta) and knows nothing of gRPC (kmesh.xds.transport).

    CONNECTING ──opened──► CONNECTED ──lost──► BACKING_OFF ──► CONNECTING
        └────────────failed───────────────────────▲

One response is read, answered and handed over; the next is read when the consumer comes back for more. Meanwhile
changed subscriptions are sent, after the answer, and timers run.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from kmesh.errors import StreamLost
from kmesh.xds.backoff import Backoff
from kmesh.xds.cache import Accepted
from kmesh.xds.config import AdsConfig, Variant, build_node
from kmesh.xds.core import AdsCore
from kmesh.xds.delta import DeltaCore
from kmesh.xds.resource_type import ResourceType
from kmesh.xds.sotw import SotwCore
from kmesh.xds.status import AdsStatus, StreamState, TypeStatus
from kmesh.xds.transport import AdsStream, PrepareSocket, Resolve, open_stream
from kmesh.xds.type_state import TypeState
from kmesh.xds.update import Update

__all__ = ["AdsClient", "AdsConfig", "Variant"]

log = logging.getLogger(__name__)

_CORES: Mapping[Variant, Callable[[Any, Sequence[ResourceType], float], AdsCore]] = {
    Variant.SOTW: SotwCore,
    Variant.DELTA: DeltaCore,
}
_T = TypeVar("_T")


class AdsClient:
    """Use: run() in one task; `async for update in client.updates()` and subscribe() in another."""

    def __init__(
        self, config: AdsConfig, types: Sequence[ResourceType], *, resolve: Resolve, prepare_socket: PrepareSocket
    ) -> None:
        """`types` in the order in which to request them: CDS, EDS, LDS, RDS makes before it breaks."""
        self._config = config
        self._resolve = resolve
        self._prepare_socket = prepare_socket
        self._core: AdsCore = _CORES[config.variant](build_node(config), types, config.not_received_s)
        self._backoff = Backoff(
            initial_s=config.backoff_initial_s, maximum_s=config.backoff_maximum_s, random=random.random
        )
        # At most one update from a response, for the next is not read before; one per type from timers and
        # subscribe() between two turns of the consumer.
        self._updates: asyncio.Queue[Update] = asyncio.Queue()
        self._requests_due = asyncio.Event()
        self._deadline_moved = asyncio.Event()
        self._state = StreamState.CONNECTING
        self._state_since = _utc_now()
        self._attempts = 0
        self._next_attempt_at: datetime | None = None
        self._last_error = ""
        self._last_error_at: datetime | None = None

    async def run(self) -> None:
        """Until cancelled: connect, converse, and back off, whatever the server does."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_connected())
            group.create_task(self._keep_expiring())

    async def updates(self) -> AsyncIterator[Update]:
        """What the server says, for one consumer, in order. Coming back for the next says that the last is done."""
        while True:
            update = await self._updates.get()
            try:
                yield update
            finally:
                self._updates.task_done()

    def subscribe(self, type_url: str, names: Iterable[str]) -> None:
        """Subscribe to exactly `names` of a type that is not full-state (those are wildcards from the start).

        May be called at any time. What is known already of new names comes as an update.
        """
        update = self._core.table.subscribe(type_url, names)
        if update is not None:
            self._updates.put_nowait(update)
        self._requests_due.set()

    def resources(self) -> Mapping[str, Mapping[str, Accepted]]:
        """A copy of what is accepted: {type_url: {name: Accepted(version, raw bytes)}}."""
        return self._core.table.resources()

    def status(self) -> AdsStatus:
        return AdsStatus(
            server=str(self._config.server),
            variant=self._config.variant.value,
            state=self._state,
            connected_since=self._state_since if self._state is StreamState.CONNECTED else None,
            last_error=self._last_error,
            last_error_at=self._last_error_at,
            attempts=self._attempts,
            next_attempt_at=self._next_attempt_at,
            types=tuple(_describe_type(state) for state in self._core.table),
        )

    # Connection

    async def _keep_connected(self) -> NoReturn:
        while True:
            lost = await _run_in_own_task(self._hold_stream())
            await self._back_off(lost)

    async def _hold_stream(self) -> StreamLost:
        """One stream from its opening to its end; returns why it ended."""
        self._attempts += 1
        self._enter(StreamState.CONNECTING)
        try:
            async with open_stream(self._config, self._resolve, self._prepare_socket) as stream:
                self._enter(StreamState.CONNECTED)
                log.info("xds stream opened", extra={"server": str(self._config.server)})
                await self._converse(stream)
        except StreamLost as lost:
            return lost
        finally:
            self._core.lose_stream()
        raise AssertionError("a stream ends in no other way than StreamLost")

    async def _back_off(self, lost: StreamLost) -> None:
        """`attempts` is 0 when the stream had brought a good response: then start again from the shortest delay."""
        had_response = self._attempts == 0
        if had_response:
            self._backoff.reset()  # gRFC A57: a stream that worked is no reason to doubt the server
        delay_s = self._backoff.next_delay()
        self._enter(StreamState.BACKING_OFF)
        self._last_error, self._last_error_at = str(lost), self._state_since
        self._next_attempt_at = self._state_since + timedelta(seconds=delay_s)
        level = logging.INFO if had_response else logging.WARNING
        fields = {"server": str(self._config.server), "error": str(lost), "retry_in_s": round(delay_s, 3)}
        log.log(level, "xds stream lost", extra=fields)
        await asyncio.sleep(delay_s)

    def _enter(self, state: StreamState) -> None:
        self._state = state
        self._state_since = _utc_now()
        self._next_attempt_at = None

    # Messages

    async def _converse(self, stream: AdsStream) -> NoReturn:
        """Raises: StreamLost."""
        self._core.open_stream()
        self._requests_due.set()
        sender = asyncio.create_task(self._send_requests(stream))
        try:
            await self._receive_responses(stream)
        finally:
            sender.cancel()
            await asyncio.wait({sender})

    async def _receive_responses(self, stream: AdsStream) -> NoReturn:
        """Raises: StreamLost."""
        loop = asyncio.get_running_loop()
        while True:
            response = await stream.receive()
            log.debug("xds response", extra={"type_url": response.type_url, "nonce": response.nonce})
            update = self._core.receive(response, loop.time())
            self._requests_due.set()
            self._deadline_moved.set()
            if update is None:
                continue
            if not update.errors:
                self._attempts = 0
            self._updates.put_nowait(update)
            await self._updates.join()

    async def _send_requests(self, stream: AdsStream) -> None:
        """A task of its own, for reading must not wait for writing: the server may be waiting likewise."""
        loop = asyncio.get_running_loop()
        while True:
            await self._requests_due.wait()
            self._requests_due.clear()
            for request in self._core.take_requests(loop.time()):
                try:
                    await stream.send(request)
                except StreamLost:
                    return  # receiving fails likewise, and says why
                log.debug("xds request", extra={"type_url": request.type_url, "nonce": request.response_nonce})
            self._deadline_moved.set()

    # Time

    async def _keep_expiring(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            self._deadline_moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._core.table.next_deadline()):
                    await self._deadline_moved.wait()
            for update in self._core.table.expire(loop.time()):
                self._updates.put_nowait(update)


def _describe_type(state: TypeState) -> TypeStatus:
    return TypeStatus(
        name=state.kind.name,
        type_url=state.kind.type_url,
        version=state.version,
        nonce=state.nonce,
        resources=len(state.cache),
        subscribed=None if state.kind.is_full_state else len(state.wanted),
        responses=state.responses,
        is_rejected=state.is_rejected,
        last_nack=state.last_nack,
        last_nack_at=None if state.last_nack_at is None else _loop_time_to_utc(state.last_nack_at),
        rejected=tuple(sorted(state.rejected.items())),
    )


def _loop_time_to_utc(at: float) -> datetime:
    return _utc_now() - timedelta(seconds=asyncio.get_running_loop().time() - at)


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def _run_in_own_task(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Await it apart from this task, which open_stream() asks for. Cancelling this task ends both."""
    task = asyncio.create_task(coroutine)
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})
    return task.result()
