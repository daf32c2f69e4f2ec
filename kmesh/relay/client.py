"""One client connection: what comes down to the relay is answered in order, and in step with the kernel.

    comes                       is done
    a request                   wait until the kernel's exchange in flight is answered; relay it, or answer it
    an answer handed over       relayed from its first byte; only then what the client sent meanwhile
    the end of the stream       bound upstream connections are told, and the last of them to end closes this one
    what is no request          answered, and closed; at its beginning passed on whole, where the listener has
                                another filter chain for it

Before the last byte of an answer a grant is written: two counts of bytes, by which the programs know that the client
waits for nothing, and begin to carry its requests again (decision 9). A client that waits costs no wake-up; one that
has sent a part of a head has HEAD_S for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Protocol, assert_never

from kmesh.compiler.ir import Undetected
from kmesh.model.listener import Http10
from kmesh.model.weighted_cluster import WeightedCluster
from kmesh.relay.answering import PROTOCOL_ERROR, TERMINATION, Answering, Failed
from kmesh.relay.channel import Channel
from kmesh.relay.decide import Decision, Refused, Reply, ToCluster
from kmesh.relay.exchange import Asked, Exchange, Progress, Times, note_asked
from kmesh.relay.forwarding import HeadRewrite, forward_request
from kmesh.relay.framing import BadFraming, Framer, LengthFramer, NoBody
from kmesh.relay.head import BadRequest, Body, Headers, RequestHead, read_request_head
from kmesh.relay.journal import Rest
from kmesh.relay.pump import Direction, Lost, Slot, peek_head, send_all
from kmesh.relay.replies import REQUEST_TIMEOUT, write_refusal, write_reply
from kmesh.relay.undetected import Begun, copy_both_ways, list_clusters, wait_for_first_bytes

__all__ = ["HEAD_S", "Client", "Surroundings", "UnfinishedHeads", "Unreachable"]

HEAD_S = 60.0
"""From the first byte of a head to its last."""
_LINGER_S = 1.0
"""From the end of what is sent to a client that does not close."""
"""How long what a client still sends is dropped, so that it can read the answer that it was closed with."""
_DROPPED_BYTES = 1024 * 1024
_TRIES = 4
"""Of upstream connections that may turn out to be closed."""
_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
_ASK_AGAIN_S = 0.05
"""While the kernel has an exchange in flight, and its end was not told."""


class Unreachable(Exception):
    """No connection to an endpoint of the cluster: `body` is Envoy's for it."""

    def __init__(self, body: bytes, status: int = 503) -> None:
        super().__init__(body.decode())
        self.body, self.status = body, status


class UnfinishedHeads:
    """Clients that have sent a part of a head: when they are too many, the oldest is given up."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._timeouts: OrderedDict[int, asyncio.Timeout] = OrderedDict()

    def __len__(self) -> int:
        return len(self._timeouts)

    @contextlib.contextmanager
    def wait(self, key: int, timeout: asyncio.Timeout) -> Iterator[None]:
        if len(self._timeouts) >= self._limit:
            _, oldest = self._timeouts.popitem(last=False)
            oldest.reschedule(0)
        self._timeouts[key] = timeout
        try:
            yield
        finally:
            self._timeouts.pop(key, None)


class Surroundings(Protocol):
    """What a client's connection needs of the rest of the relay. Clients are known by their cookies."""

    unfinished: UnfinishedHeads

    def decide(self, head: RequestHead, routing: int, port: int) -> Decision: ...

    def find_http10(self, routing: int) -> Http10 | None:
        """How requests of HTTP/1.0 are served; None: they are not."""

    def find_undetected(self, routing: int) -> Undetected | None:
        """What becomes of connections that are not HTTP/1.1; None: all are taken for that."""

    def choose(self, clusters: tuple[WeightedCluster, ...]) -> ToCluster | None:
        """One of them for a whole connection; None: there is no such cluster."""

    def claim(self, client: int) -> bool:
        """Keep the programs from carrying anything of this client from now on; False: they have done so already."""

    async def dial(self, client: Client, to: ToCluster) -> Channel:
        """A connection that nothing was sent on, from the client's namespace. Raises: Unreachable."""

    def begin_exchange(
        self, client: Client, upstream: Channel, asked: Asked, rests: Mapping[int, Rest] | None = None
    ) -> Slot | None:
        """An exchange begins between the two; what it is to be written to, for a successor. `rests` by direction,
        where it was begun before."""

    def release(self, upstream: Channel, clean: bool) -> None:
        """Used here no longer. `clean`: it stands between two exchanges; else it is to be reset, if it is open."""

    def in_flight(self, client: int) -> int:
        """Cookie of the upstream connection by which the kernel carries an exchange of this client; 0: none."""

    def grant(self, client: int, taken: int, given: int, ended: int) -> None:
        """Write the grant: the programs go on when these are the bytes that went to the relay, and came from it."""

    def client_ended(self, client: Client) -> bool:
        """It sends no more. Shut down what is bound to it; False: nothing is. `close` it when the last has ended."""

    def forget(self, client: Client) -> None:
        """Its connection is closed now: so is what is bound to it."""


class Client:
    """`serve` is its life; the rest are what happens to it from outside."""

    def __init__(
        self,
        channel: Channel,
        *,
        cookie: int,
        netns: int,
        routing: int,
        port: int,
        surroundings: Surroundings,
        ended: int = 0,
    ) -> None:
        """`cookie` is that of the client's own socket, `port` what it connected to. `ended`: the upstream connection
        of the kernel's exchange that a predecessor answered last."""
        self.channel, self.cookie, self.netns = channel, cookie, netns
        self._routing, self._port = routing, port
        self._around = surroundings
        self._told = asyncio.Event()
        """Something happened to the exchange that the kernel has in flight."""
        self._ended = ended
        """Upstream connection of the kernel's exchange that was answered here last. The kernel may know it later."""
        self._turn = asyncio.Lock()
        """Of whoever writes an answer."""
        self.is_closed = self.has_ended = False
        """Nothing more comes from it."""
        self.is_gone = False
        """Its socket is no more: nobody reads what is sent to it."""
        self._is_finished = False
        """Nothing more is sent to it."""
        self._closes: asyncio.TimerHandle | None = None

    # Events

    def note_ended(self) -> None:
        """The kernel's exchange in flight was answered to its end."""
        self._told.set()

    def note_lost(self, upstream: int, has_begun: bool) -> None:
        """Its upstream connection ended without the answer, or in the middle of it."""
        self._ended = upstream
        if has_begun:
            self.reset()
        else:
            reply = write_reply(503, TERMINATION)
            self._grant(len(reply))
            with contextlib.suppress(OSError):
                if self.channel.send(reply) != len(reply):
                    self.reset()  # a client that lets a whole buffer of answers lie
        self._told.set()

    async def relay_answer(
        self,
        upstream: Channel,
        cookie: int,
        *,
        is_head: bool,
        closes: bool = False,
        rest: Framer | None = None,
        ahead: int = 0,
    ) -> None:
        """The answer to the kernel's exchange in flight, which the kernel cannot carry. Releases `upstream`.

        `closes`: the request asked for the end of the connection. `rest`: the answer was carried up to `ahead` bytes
        before there, by the kernel or by a predecessor.

        That is not used again: grants say that its exchange ended, and must not be taken to mean a later one.
        """
        try:
            async with self._turn:
                self._ended = cookie
                await self._relay_answer(upstream, is_head, closes, rest, ahead)
        except (Lost, BadFraming, OSError):
            self.reset()
        except Exception:  # a mistake in here ends this connection, and is told
            self.reset()
            raise
        finally:
            self._around.release(upstream, False)
            self._told.set()

    async def _relay_answer(
        self, upstream: Channel, is_head: bool, closes: bool, rest: Framer | None, ahead: int
    ) -> None:
        asked = (Asked.HEAD if is_head else Asked(0)) | (Asked.CLOSES if closes else Asked(0))
        rests: dict[int, Rest] = {Direction.ANSWER: _note_rest(rest, ahead)} if rest else {}
        slot = self._around.begin_exchange(self, upstream, asked, rests)
        answering = Answering(self.channel, upstream, is_head=is_head, before_last=self._grant, slot=slot)
        answering.closes = closes
        try:
            if rest:
                await answering.relay_rest(rest, ahead)
            else:
                head = await answering.read_head()
                if head.body is Body.TUNNEL:
                    raise Failed(502, PROTOCOL_ERROR)
                await answering.relay(head, closes=closes)
        except Failed as failed:
            method = b"HEAD" if is_head else b"GET"
            await self._reply(write_reply(failed.status, failed.body, closes=closes, method=method))
        if answering.closes:
            self.finish()

    def finish(self) -> None:
        """Send the end of the stream. What still comes is dropped, for a while: an answer is not taken back by a
        reset, as it would be where the client's bytes lie unread."""
        if self.is_closed or self._is_finished:
            return
        self._is_finished = True
        self.channel.shut_down()
        if self.has_ended:
            self.close()
        else:
            self._closes = asyncio.get_running_loop().call_later(_LINGER_S, self.close)

    def reset(self) -> None:
        if not self.is_closed:
            self._end()
            self.channel.reset()
            self._around.forget(self)

    def close(self) -> None:
        if not self.is_closed:
            self._end()
            self.channel.close()
            self._around.forget(self)

    def _end(self) -> None:
        self.is_closed = True
        if self._closes:
            self._closes.cancel()

    # Requests

    async def serve(self, *, is_new: bool = True) -> None:
        """Until the connection is closed, or its client sends no more. `is_new`: it may be another protocol still."""
        try:
            if is_new and not await self._is_http():
                return
            while not self.is_closed:
                head = await self._read_head()
                if head is None:
                    break
                await self._wait_for_kernel()
                async with self._turn:
                    is_over = self._is_finished
                    if not is_over and not await self._answer(head):
                        self.finish()
                        is_over = True
                if is_over:
                    await self._drop_rest()
                    return
            self.has_ended = True
            if not self.is_closed and (self._is_finished or not self._around.client_ended(self)):
                self.close()
        except (Lost, BadFraming, TimeoutError, OSError):
            self.reset()
        except Exception:  # a mistake in here ends this connection, and is told
            self.reset()
            raise

    async def resume(self, upstream: Channel, asked: Asked, progress: Progress) -> None:
        """The rest of an exchange that a predecessor began; then `serve`. Of the route's times none is known now.

        The upstream connection is not used again: what this channel counts did not begin with it.
        """
        try:
            goes_on = await self._resume(upstream, asked, progress)
        except (Lost, BadFraming, OSError):
            self.reset()
            return
        except Exception:  # a mistake in here ends this connection, and is told
            self.reset()
            raise
        finally:
            self._around.release(upstream, False)
        if goes_on:
            await self.serve(is_new=False)
        else:
            self.finish()
            await self._drop_rest()

    async def _resume(self, upstream: Channel, asked: Asked, progress: Progress) -> bool:
        """Returns whether the client's connection goes on. Raises: Lost, BadFraming, OSError."""
        slot = self._around.begin_exchange(self, upstream, asked, _note_rests(progress))
        exchange = Exchange(
            self.channel,
            upstream,
            None,
            asked=asked,
            before_last=self._grant,
            times=Times(),
            progress=progress,
            slot=slot,
        )
        async with self._turn:
            return await self._end_resumed(exchange, asked)

    async def _end_resumed(self, exchange: Exchange, asked: Asked) -> bool:
        """Returns whether the client's connection goes on. Raises: Lost, BadFraming, OSError."""
        try:
            return (await exchange.carry()).client_goes_on
        except Failed as failed:
            closes = Asked.CLOSES in asked or failed.closes or not exchange.is_sent
            method = b"HEAD" if Asked.HEAD in asked else b"GET"
            is_old = Asked.OLD in asked
            await self._reply(write_reply(failed.status, failed.body, closes=closes, method=method, is_old=is_old))
            return not closes

    async def _is_http(self) -> bool:
        """False: it was not, and was carried to its end. Raises: Lost, OSError."""
        undetected = self._around.find_undetected(self._routing)
        if not undetected:
            return True
        begun = await wait_for_first_bytes(self.channel, undetected.detection)
        is_http = begun in (None, Begun.HTTP1) or (begun is Begun.HTTP10 and undetected.takes_http10)
        if is_http or (begun is Begun.SILENT and not self._around.claim(self.cookie)):
            return True
        to = self._around.choose(list_clusters(undetected, begun))
        if to is None:
            self.reset()
            return False
        try:
            upstream = await self._around.dial(self, to)
        except Unreachable:
            self.reset()
            return False
        try:
            await copy_both_ways(self.channel, upstream, self._around.begin_exchange(self, upstream, Asked(0)))
        finally:
            self._around.release(upstream, False)
        self.close()
        return False

    async def _read_head(self) -> RequestHead | BadRequest | None:
        """None at the end of the stream. Raises: Lost."""
        await peek_head(self.channel, None, lambda _: True)  # the first byte of it, whenever it comes
        read = partial(read_request_head, http10=self._around.find_http10(self._routing))
        try:
            async with asyncio.timeout(HEAD_S) as timeout:
                with self._around.unfinished.wait(self.cookie, timeout):
                    return await peek_head(self.channel, None, read)
        except TimeoutError:
            return BadRequest(408, "its head took too long")

    async def _wait_for_kernel(self) -> None:
        """Answers come in the order of the requests."""
        while self._around.in_flight(self.cookie) not in (0, self._ended):
            self._told.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), _ASK_AGAIN_S)

    async def _answer(self, head: RequestHead | BadRequest) -> bool:
        """Returns whether the connection goes on. Raises: Lost, BadFraming, TimeoutError."""
        if isinstance(head, BadRequest):
            reply = write_reply(408, REQUEST_TIMEOUT, closes=True) if head.status == 408 else write_refusal(head)
            await send_all(self.channel, reply)
            return False
        decision = self._around.decide(head, self._routing, self._port)
        match decision:
            case ToCluster():
                return await self._relay(head, decision)
            case Reply():
                return await self._reply_to(
                    head, decision.status, decision.body, decision.headers, closes=decision.closes
                )
            case Refused():
                return await self._reply_to(head, 503, b"not supported: " + decision.feature.encode())
            case _:
                assert_never(decision)

    async def _relay(self, head: RequestHead, to: ToCluster) -> bool:
        """Returns whether the client's connection goes on. Raises: Lost, BadFraming, TimeoutError.

        A connection that served another exchange may have been closed meanwhile: where it is safe, another is tried.
        """
        start = self.channel.taken
        for left in range(_TRIES - 1, -1, -1):
            untaken = head.length - (self.channel.taken - start)
            try:
                upstream = await self._around.dial(self, to)
            except Unreachable as why:
                return await self._reply_to(head, why.status, why.body, rewrite=to.rewrite_answer, untaken=untaken)
            given, taken = upstream.given, upstream.taken
            exchange, is_clean = await self._begin(head, to, upstream, is_taken=not untaken), False
            try:
                ending = await exchange.carry()
                is_clean = ending.upstream_is_clean
                return ending.client_goes_on
            except Failed as failed:
                if left and given and upstream.taken == taken and failed.body == TERMINATION and _is_safe(head):
                    continue
                return await self._reply_failed(head, to, failed, start, is_complete=exchange.is_sent)
            finally:
                self._around.release(upstream, is_clean)
        raise AssertionError("the last try returns or raises")

    async def _begin(self, head: RequestHead, to: ToCluster, upstream: Channel, *, is_taken: bool) -> Exchange:
        """`is_taken`: the head is no longer in the client's queue, and is sent here. Raises: Lost (the client)."""
        asked = note_asked(head, edits=to.rewrite_answer is not None)
        slot = self._around.begin_exchange(self, upstream, asked)
        if is_taken:
            with contextlib.suppress(Lost):  # as the exchange will see
                await send_all(upstream, forward_request(head, to.rewrite_request))
            if slot:
                slot.plan(Direction.REQUEST, NoBody().state, 0, upstream.given)
        return Exchange(
            self.channel,
            upstream,
            None if is_taken else head,
            asked=asked & ~Asked.EDITS if is_taken else asked,
            before_last=self._grant,
            times=Times(answer_s=to.timeout_s, idle_s=to.idle_timeout_s),
            progress=Progress(request=NoBody()) if is_taken else None,
            rewrite_request=to.rewrite_request,
            rewrite_answer=to.rewrite_answer,
            slot=slot,
        )

    async def _reply_failed(
        self, head: RequestHead, to: ToCluster, failed: Failed, start: int, *, is_complete: bool
    ) -> bool:
        return await self._reply_to(
            head,
            failed.status,
            failed.body,
            rewrite=to.rewrite_answer,
            closes=failed.closes,
            untaken=max(head.length - (self.channel.taken - start), 0),
            is_complete=is_complete,
        )

    # Answers

    async def _reply_to(
        self,
        head: RequestHead,
        status: int,
        body: bytes = b"",
        headers: Headers | None = None,
        *,
        rewrite: HeadRewrite | None = None,
        closes: bool = False,
        untaken: int | None = None,
        is_complete: bool = False,
    ) -> bool:
        """Answer here; with a body that did not go on the connection ends. Returns whether it goes on."""
        self.channel.take(head.length if untaken is None else untaken)
        closes = closes or head.closes or not (is_complete or head.body is Body.NONE) or (head.is_old and not body)
        reply = write_reply(status, body, headers, closes=closes, method=head.method, is_old=head.is_old)
        if rewrite:
            end = reply.index(b"\r\n\r\n") + 4
            reply = rewrite(reply[:end]) + reply[end:]
        if closes:
            await send_all(self.channel, reply)
        else:
            await self._reply(reply)
        return not closes

    async def _reply(self, reply: bytes) -> None:
        self._grant(len(reply))
        await send_all(self.channel, reply)

    def _grant(self, planned: int) -> None:
        """Before the last `planned` bytes of an answer. It holds only if nothing of the client's lies unread."""
        self._around.grant(self.cookie, self.channel.taken, self.channel.given + planned, self._ended)

    async def _drop_rest(self) -> None:
        """What comes behind the last answer, to the stream's end or too much of it; or until this is closed."""
        dropped = 0
        with contextlib.suppress(OSError):
            while not self.is_closed and dropped < _DROPPED_BYTES:
                unread = self.channel.peek(_drop_window)
                if unread == 0:
                    self.has_ended = True
                    break
                if unread is None:
                    await self.channel.readable()
                else:
                    self.channel.take(unread)
                    dropped += unread
        if self._is_finished:
            self.close()


_drop_window = memoryview(bytearray(65536))


def _is_safe(head: RequestHead) -> bool:
    """Whether it may be sent twice: RFC 9110 section 9.2.1, and nothing of it is needed but the head."""
    return head.method in _SAFE and head.body is Body.NONE


def _note_rests(progress: Progress) -> dict[int, Rest]:
    """Of each direction, for a successor that comes before its next step."""
    request = _note_rest(progress.request, progress.request_ahead, progress.pipes.get(Direction.REQUEST))
    if progress.answer is None:
        return {Direction.REQUEST: request}
    answer = _note_rest(progress.answer, progress.answer_ahead, progress.pipes.get(Direction.ANSWER))
    return {Direction.REQUEST: request, Direction.ANSWER: answer}


def _note_rest(framer: Framer, ahead: int, pipe: tuple[int, int] | None = None) -> Rest:
    """`pipe`: (descriptor to read from, bytes in it)."""
    if pipe and isinstance(framer, LengthFramer):
        read_end, piped = pipe
        return Rest(state=framer.state, planned=framer.left + piped, pipe=read_end, piped=piped)
    return Rest(state=framer.state, planned=ahead)
