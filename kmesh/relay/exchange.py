"""One relayed exchange: a request and its body one way, its answer the other way, at the same time.

    comes                                        is done
    interim answers (1xx)                        passed on, as they come
    answer before the request's end              passed on with "connection: close"; the rest of the request is let go
    101                                          bytes both ways, each way until its own end
    answer that the stream's end ends            the client's stream is ended behind it
    upstream lost before a head: 503, after: the client is reset
    what is no answer before a head: 502, after: the client is reset
    what is no body of the client's              400, if the answer has not begun; its connection is closed
    client lost                                  the upstream is reset
    no answer in time                            504 before its head; after it the client is reset

Source: RFC 9110 sections 7 and 15.2; RFC 9112 section 9; source/common/router/router.cc of Envoy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TypeVar

from kmesh.relay.answering import PROTOCOL_ERROR, TERMINATION, Answering, Failed, replace_head
from kmesh.relay.channel import Channel
from kmesh.relay.forwarding import HeadRewrite, forward_request, is_switched
from kmesh.relay.framing import BadFraming, CloseFramer, Framer, NoBody, State, make_framer
from kmesh.relay.head import AnswerHead, Body, RequestHead
from kmesh.relay.pump import Direction, Lost, Slot, empty_pipe, pump
from kmesh.relay.replies import STREAM_TIMEOUT, UPSTREAM_TIMEOUT

__all__ = ["Asked", "Ending", "Exchange", "Progress", "Times", "note_asked"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """In seconds; None: no limit."""

    answer_s: float | None = None
    """From the end of the request to the end of its answer."""
    idle_s: float | None = None
    """Without a byte either way."""


class Asked(IntFlag):
    """What of a request its answer depends on. A slot can hold it."""

    HEAD = 1
    CLOSES = 2
    """The client's connection, behind the answer."""
    SWITCHES = 4
    """To another protocol."""
    EDITS = 8
    """The route changes the head of the answer; how is not known to a successor."""
    OLD = 16
    """The client speaks HTTP/1.0."""
    CONTINUE = 32
    """It waits for an interim answer before it sends its body."""


def note_asked(head: RequestHead, *, edits: bool) -> Asked:
    return Asked(
        Asked.HEAD * (head.method == b"HEAD")
        | Asked.CLOSES * head.closes
        | Asked.SWITCHES * is_switched(head)
        | Asked.EDITS * edits
        | Asked.OLD * head.is_old
        | Asked.CONTINUE * head.expects_continue
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an exchange came whose relay died, each way: bytes to be sent as they are, and what is behind them."""

    request: Framer
    request_ahead: int = 0
    answer: Framer | None = None
    """None: its head is still to be read."""
    answer_ahead: int = 0
    pipes: Mapping[Direction, tuple[int, int]] = field(default_factory=dict)
    """(descriptor to read from, bytes in it), which go first."""

    @property
    def is_tunnel(self) -> bool:
        return isinstance(self.request, CloseFramer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What may be done with the two connections now."""

    client_goes_on: bool
    upstream_is_clean: bool
    """It stands between two exchanges."""


class Exchange:
    """Both ways of one exchange."""

    def __init__(
        self,
        client: Channel,
        upstream: Channel,
        head: RequestHead | None,
        *,
        asked: Asked,
        before_last: Callable[[int], None],
        times: Times,
        progress: Progress | None = None,
        rewrite_request: HeadRewrite | None = None,
        rewrite_answer: HeadRewrite | None = None,
        slot: Slot | None = None,
    ) -> None:
        """Of a request whose head is the next that `client` sends; without it, of one that came to `progress`."""
        assert head or progress
        self._client, self._upstream, self._head = client, upstream, head
        self._asked, self._progress = asked, progress
        self._times, self._slot = times, slot
        self._rewrite_request = rewrite_request
        self._answering = Answering(
            client,
            upstream,
            is_head=Asked.HEAD in asked,
            before_last=before_last,
            rewrite=rewrite_answer,
            slot=slot,
            is_to_old=Asked.OLD in asked,
            expects_continue=Asked.CONTINUE in asked,
        )
        self.is_sent = False
        """The request, to its end."""
        self._is_idle = False
        self._timeout: asyncio.Timeout | None = None

    @property
    def has_begun(self) -> bool:
        """Something of a final answer was passed on."""
        return self._answering.has_begun

    async def carry(self) -> Ending:
        """Raises: Failed, Lost, BadFraming, TimeoutError (behind the head of the answer)."""
        try:
            async with asyncio.timeout(None) as self._timeout:
                with self._watch_idle():
                    return await self._carry()
        except TimeoutError:
            if self.has_begun:
                raise
            if self._is_idle:
                raise Failed(504 if self.is_sent else 408, STREAM_TIMEOUT, closes=not self.is_sent) from None
            raise Failed(504, UPSTREAM_TIMEOUT) from None

    async def _carry(self) -> Ending:
        if self._progress and self._progress.is_tunnel:
            if self._progress.answer:
                return await self._relay_both_ways(self._progress)
            self.is_sent = True  # the head that says so comes again
            return await self._relay_answer()
        if self._has_no_body:
            try:
                await self._send_request()
            except Lost as lost:
                if lost.channel is not self._upstream:
                    raise
            return await self._relay_answer()
        sending = asyncio.create_task(self._send_request())
        answering = asyncio.create_task(self._relay_answer())
        try:
            await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not self._is_answer_awaited(sending):
                sending.result()
            return await answering
        finally:
            await _cancel(sending, answering)

    @property
    def _has_no_body(self) -> bool:
        """So that nothing is sent beside the answer."""
        if self._progress:
            return isinstance(self._progress.request, NoBody)
        return self._head is not None and self._head.body is Body.NONE

    def _is_answer_awaited(self, sending: asyncio.Task[None]) -> bool:
        """A server that closed may have answered before. Raises: Failed for a body that is none."""
        match sending.exception():
            case None:
                return True
            case Lost(channel=channel):
                return channel is self._upstream
            case BadFraming() if not (self._client.has_ended or self.has_begun):
                raise Failed(400, b"Bad Request", closes=True)
            case _:
                return False

    async def _send_request(self) -> None:
        if self._head:
            framer = make_framer(self._head)
            ahead = await self._send_head(self._head, framer.state)
        else:
            assert self._progress
            await _empty_pipe(self._progress, Direction.REQUEST, self._upstream)
            framer, ahead = self._progress.request, self._progress.request_ahead
        await pump(self._client, self._upstream, framer, self._slot, Direction.REQUEST, ahead=ahead)
        self.is_sent = True
        if self._timeout and self._times.answer_s is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._times.answer_s)

    async def _send_head(self, head: RequestHead, state: State) -> int:
        """If it is changed; returns how many bytes of the client's are to be sent as they are, where it is not."""
        out = forward_request(head, self._rewrite_request)
        if out is head.raw and head.length == len(head.raw):
            return head.length
        await replace_head(self._client, self._upstream, head.length, out, state, self._slot, Direction.REQUEST)
        return 0

    async def _relay_answer(self) -> Ending:
        answering, upstream = self._answering, self._upstream
        closes = Asked.CLOSES in self._asked
        if self._progress and self._progress.answer:
            answering.closes = closes or not self.is_sent
            await _empty_pipe(self._progress, Direction.ANSWER, self._client)
            await answering.relay_rest(self._progress.answer, self._progress.answer_ahead)
            return Ending(client_goes_on=not answering.closes, upstream_is_clean=False)
        if self._progress and Asked.EDITS in self._asked:
            raise Failed(503, TERMINATION)  # rather none than one that is not what the route makes of it
        head = await answering.read_head()
        if head.status == 101:
            return await self._relay_tunnel(head)
        await answering.relay(head, closes=closes or not self.is_sent)
        is_clean = self.is_sent and not (head.closes or upstream.has_ended) and upstream.is_empty()
        return Ending(client_goes_on=not answering.closes, upstream_is_clean=is_clean)

    async def _relay_tunnel(self, head: AnswerHead) -> Ending:
        """Bytes of another protocol, each way until its own end. Raises: Failed, Lost."""
        if Asked.SWITCHES not in self._asked or not self.is_sent:
            raise Failed(502, PROTOCOL_ERROR)
        if self._timeout and not self._times.idle_s:
            self._timeout.reschedule(None)
        self._times = Times(idle_s=self._times.idle_s)
        out = self._answering.forward(head, closes=False)
        ahead = head.length if out is head.raw else 0
        self._answering.has_begun = True
        if self._slot:  # for a successor that comes before the client has said anything
            self._slot.note_state(Direction.REQUEST, CloseFramer().state)
        if not ahead:
            state = CloseFramer().state
            await replace_head(self._upstream, self._client, head.length, out, state, self._slot, Direction.ANSWER)
        return await self._relay_both_ways(Progress(request=CloseFramer(), answer=CloseFramer(), answer_ahead=ahead))

    async def _relay_both_ways(self, progress: Progress) -> Ending:
        client, upstream, slot = self._client, self._upstream, self._slot
        self._answering.has_begun = True
        assert progress.answer
        request = client, upstream, progress.request, slot, Direction.REQUEST, progress.request_ahead
        answer = upstream, client, progress.answer, slot, Direction.ANSWER, progress.answer_ahead
        ways = asyncio.create_task(_relay_until_end(*request)), asyncio.create_task(_relay_until_end(*answer))
        try:
            await asyncio.gather(*ways)
            upstream.close()  # a reset would overtake what it has not sent yet
        finally:
            await _cancel(*ways)
        return Ending(client_goes_on=False, upstream_is_clean=False)

    # Time without a byte

    @contextlib.contextmanager
    def _watch_idle(self) -> Iterator[None]:
        if self._times.idle_s is None:
            yield
            return
        self._check_idle(-1)
        try:
            yield
        finally:
            self._idle_check.cancel()

    def _check_idle(self, before: int) -> None:
        idle_s = self._times.idle_s or 0.0
        now = self._client.taken + self._client.given + self._upstream.taken + self._upstream.given
        loop = asyncio.get_running_loop()
        if now == before and self._timeout:
            self._is_idle = True
            self._timeout.reschedule(loop.time())
            return
        self._idle_check = loop.call_later(idle_s, self._check_idle, now)


async def _relay_until_end(
    source: Channel, sink: Channel, framer: Framer, slot: Slot | None, direction: Direction, ahead: int
) -> None:
    await pump(source, sink, framer, slot, direction, ahead=ahead)
    sink.shut_down()


async def _empty_pipe(progress: Progress, direction: Direction, sink: Channel) -> None:
    if direction in progress.pipes:
        read_end, count = progress.pipes[direction]
        try:
            await empty_pipe(read_end, sink, count)
        finally:
            os.close(read_end)


async def _cancel(*tasks: asyncio.Task[_T]) -> None:
    """And wait until they have ended; what they failed with is known, or of no more use."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
