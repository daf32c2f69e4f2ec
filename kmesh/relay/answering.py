"""The way back of an exchange: heads of answers, and the body of the last, from a server to the client.

What is no answer, or does not come, is Failed: nothing of a final head was passed on, and another answer takes its
place. To a client of HTTP/1.0 the connection's end is the end of what has no length, and of interim heads it gets the
100 that it asked for.

Source: RFC 9110 section 15.2; RFC 9112 section 6.3.
"""

from __future__ import annotations

from collections.abc import Callable

from kmesh.relay.channel import Channel
from kmesh.relay.forwarding import HeadRewrite, forward_answer
from kmesh.relay.framing import BareChunks, CloseFramer, Framer, State, make_framer
from kmesh.relay.head import AnswerHead, BadAnswer, Body, read_answer_head
from kmesh.relay.pump import Direction, Lost, Slot, peek_head, pump, send_all
from kmesh.relay.replies import describe_reset

__all__ = ["PROTOCOL_ERROR", "TERMINATION", "Answering", "Failed", "replace_head"]

PROTOCOL_ERROR = describe_reset(b"protocol error")
TERMINATION = describe_reset(b"connection termination")
_NOTHING: State = (0, 0, 0)
"""Of a direction whose final head is still to come."""


class Failed(Exception):
    """No head of an answer was passed on. To be answered with this status and body."""

    def __init__(self, status: int, body: bytes, *, closes: bool = False) -> None:
        super().__init__(f"{status} {body.decode()}")
        self.status, self.body, self.closes = status, body, closes


class Answering:
    """The way back: from the first byte of an answer to its last.

    `before_last` is called with the number of bytes at the end of the answer, before they are sent; not where
    the client's connection ends with them.
    """

    def __init__(
        self,
        client: Channel,
        upstream: Channel,
        *,
        is_head: bool,
        before_last: Callable[[int], None],
        rewrite: HeadRewrite | None = None,
        slot: Slot | None = None,
        is_to_old: bool = False,
        expects_continue: bool = False,
    ) -> None:
        """`is_to_old`: the client speaks HTTP/1.0."""
        self._client, self._upstream, self._is_head = client, upstream, is_head
        self._is_to_old, self._expects_continue = is_to_old, expects_continue
        self._before_last, self._rewrite, self._slot = before_last, rewrite, slot
        self.has_begun = False
        """A final head was passed on, or part of one."""
        self.closes = False
        """The client's connection ends with this answer."""

    async def read_head(self) -> AnswerHead:
        """The final one; interim ones are passed on. Raises: Failed, Lost (the client)."""
        while True:
            head = await self._read_one()
            if not head.is_interim:
                return head
            is_dropped = self._is_to_old and not (head.status == 100 and self._expects_continue)
            await self._send_head(head, b"" if is_dropped else self.forward(head, closes=False), _NOTHING)

    def forward(self, head: AnswerHead, *, closes: bool) -> bytes:
        """What the client is sent in its place; `head.raw` itself where nothing is changed."""
        return forward_answer(head, self._rewrite, closes=closes, is_to_old=self._is_to_old)

    async def relay(self, head: AnswerHead, *, closes: bool) -> None:
        """Pass it on with its body; an end by the stream's end is passed on too. Raises: Lost, BadFraming."""
        is_endless = self._is_to_old and not head.values(b"content-length")
        self.closes = closes or head.body is Body.UNTIL_CLOSE or is_endless
        self.has_begun = True
        out = self.forward(head, closes=self.closes)
        framer = BareChunks() if self._is_to_old and head.body is Body.CHUNKED else make_framer(head)
        if out is head.raw:
            await self.relay_rest(framer, head.length)
            return
        if framer.is_done and not self.closes:
            self._before_last(len(out))
        await self._send_head(head, out, framer.state)
        await self.relay_rest(framer, 0)

    async def relay_rest(self, framer: Framer, ahead: int) -> None:
        """`ahead` bytes as they are, and the body behind them. Raises: Lost, BadFraming."""
        self.has_begun = True
        self.closes = self.closes or isinstance(framer, CloseFramer | BareChunks)
        if ahead or not framer.is_done:
            before_last = None if self.closes else self._before_last
            await pump(self._upstream, self._client, framer, self._slot, Direction.ANSWER, before_last, ahead)
        if self.closes:
            self._client.shut_down()

    async def _read_one(self) -> AnswerHead:
        upstream = self._upstream
        try:
            method = b"HEAD" if self._is_head else b"GET"
            head = await peek_head(upstream, self._client, lambda received: read_answer_head(received, method))
        except Lost as lost:
            if lost.channel is upstream:
                raise Failed(503, TERMINATION) from None
            raise
        if isinstance(head, AnswerHead):
            return head
        is_partial = head is None and upstream.peek(memoryview(bytearray(1))) == 1
        if isinstance(head, BadAnswer) or is_partial:
            raise Failed(502, PROTOCOL_ERROR)
        raise Failed(503, TERMINATION)

    async def _send_head(self, head: AnswerHead, out: bytes, state: State) -> None:
        await replace_head(self._upstream, self._client, head.length, out, state, self._slot, Direction.ANSWER)



async def replace_head(
    source: Channel, sink: Channel, length: int, out: bytes, state: State, slot: Slot | None, direction: Direction
) -> None:
    """Send `out` in place of the `length` bytes that the source begins with; `state` is of the body's framer.

    Raises: Lost.
    """
    if slot:
        slot.replacing(direction, length, len(out), sink.given, state)
    await send_all(sink, out)
    source.take(length)
    if slot:
        slot.consumed(direction)
